"""The proxy language model: stacked models, packing, schedules, hyper-parameters, the loop.

Import what is needed from its file; none of these loads torch until a model is made:

    prill.lm.shape      Shape, LADDER, ladder_shape, flops_per_token, memory_bytes
    prill.lm.steplaw    advise: learning rate and batch for a size and a token count
    prill.lm.schedule   Schedule and its makers: cosine, wsd, infinite; branches
    prill.lm.data       TokenStream: training documents in order
    prill.lm.train      train, Run, TrainSettings, EvalSet and the results
    prill.lm.score      score_documents

and these do: `prill.lm.model`, `prill.lm.checkpoint`, `prill.lm.hf`.
"""
