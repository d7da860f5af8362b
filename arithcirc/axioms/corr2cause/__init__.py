"""From correlation to causation: which causal relations follow from a list of (conditional) independences.

After the Corr2Cause task (arXiv 2306.05836). A class of Markov equivalence is all that the independences among a closed
system of variables can tell; a relation between two variables is valid if and only if every graph of the class has it.
"""
