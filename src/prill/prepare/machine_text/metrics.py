"""What a language model makes of each token: five metrics, and two older detectors made of them.

Legend: N positions of one document, V vocabulary.
Source: Miralles-Gonzalez et al. 2025 (PAWN), arXiv:2501.03940, section 3.1; Bao et al. 2023 (Fast-DetectGPT),
arXiv:2310.05130, equation 4. Differs: a rank counts from 1.
"""

from __future__ import annotations

import torch

__all__ = ["METRICS", "curvature", "token_metrics"]

METRICS = ("log_p", "negative_entropy", "max_log_p", "rank_share", "top_p")
"""Columns of the metrics, in order; one more holds the variance of log P under P."""


def token_metrics(logits_NV: torch.Tensor, following_N: torch.Tensor) -> torch.Tensor:
    """The metrics of every position and the variance of log P, fp32, (N, 6).

    Args:
        logits_NV: of the next token, any scale, finite.
        following_N: the token that does come next, int64.
    Returns:
        log P of that token; sum of P log P; largest log P; its rank (1 for the likeliest) / V; the sum of P
        over tokens at least as likely; the variance of log P under P.
    """
    log_p_NV = torch.log_softmax(logits_NV.float(), dim=-1)
    p_NV = log_p_NV.exp()
    log_p_N1 = log_p_NV.gather(1, following_N[:, None])
    mean_N = (p_NV * log_p_NV).sum(1)
    variance_N = (p_NV * (log_p_NV - mean_N[:, None]).square()).sum(1)
    is_likelier_NV = log_p_NV > log_p_N1
    rank_N = (is_likelier_NV.sum(1) + 1) / log_p_NV.shape[1]
    top_N = (p_NV * (log_p_NV >= log_p_N1)).sum(1)
    columns = [log_p_N1[:, 0], mean_N, log_p_NV.amax(1), rank_N, top_N, variance_N]
    return torch.stack([column.float() for column in columns], dim=1)


def curvature(metrics_N6: torch.Tensor) -> float:
    """Fast-DetectGPT's score of a document: how much likelier it is than a sample, in standard deviations.

    (sum of log P(next) - sum of E log P) / sqrt(sum of Var log P); 0 for a document without variance.
    """
    metrics_N6 = metrics_N6.double()
    variance = float(metrics_N6[:, 5].sum())
    return float((metrics_N6[:, 0] - metrics_N6[:, 1]).sum()) / variance**0.5 if variance > 0 else 0.0
