"""The neuron explorer: a Dash application over saved runs and sweeps; no torch, no state kept between requests."""
