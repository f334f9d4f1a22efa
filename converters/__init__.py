"""What makes a model fit a device: sources, conversions, and the verification that gates them."""
