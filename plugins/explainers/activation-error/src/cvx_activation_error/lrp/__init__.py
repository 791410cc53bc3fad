"""Layer-wise relevance propagation: rules, composites and explainers."""
