"""From a checkpoint folder to a verified ONNX bundle."""
