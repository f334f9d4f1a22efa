"""Reconstruction detectors, trained where torch is and run wherever ONNX Runtime is."""
