"""The served controller as files that fly without this package: StableHLO and ONNX, checked against what is served."""
