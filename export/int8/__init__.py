"""Graphs in int8 with scales that are fixed at export: rounding of weights, rewriting of graphs, what stays fp32.

Must not know checkpoints or torch.
"""
