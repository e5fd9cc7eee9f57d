"""Sample transforms: from documents to tokens with weights; one file a published idea."""
