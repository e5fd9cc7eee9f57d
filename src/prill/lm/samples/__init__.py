"""Sample transforms: from documents to tokens with weights; one file a published idea.

Not here: PROP and B-PROP (Ma et al. 2021, arXiv:2010.10137 and 2104.09791), which pretrain retrieval models
to prefer the more representative of two sets of words for a document. One example is two sequences, (set,
document) twice, each pooled to one number by an encoder, and the loss is a hinge over the two numbers. A row
here is tokens with a loss each, and rows of a step do not know of one another; a pair would need an identity
that survives packing, shuffling and cuts of rows, and pooled states beside token states, for one method whose
product is no language model. Drawing the sets alone, as text, would not be the method.
"""
