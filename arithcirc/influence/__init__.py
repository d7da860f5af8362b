"""Which training documents drive an answer, or built a neuron's rule: influence functions with EK-FAC curvature."""
