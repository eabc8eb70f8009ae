"""Export of the networks' parts as ONNX graphs or torch.export programs, for use without ivos."""
