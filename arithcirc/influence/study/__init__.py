"""The influence study of a model: encode, fit curvature, complete queries, score documents, rank them."""
