"""The networks outside ivos: their parts as ONNX graphs or as programs of torch.export."""
