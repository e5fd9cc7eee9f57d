"""Gradients of single documents, and their products, without ever holding a gradient a document.

`chunks` cuts documents into packed rows, `trace` runs a model over them and keeps what its linear layers
read and get back, `products` makes inner products, norms and projections of that, `curvature` the Kronecker
factors that a target's gradient is preconditioned with. Everything here imports torch.
"""
