"""A loaded model that answers single questions: what pages ask while somebody looks at them."""
