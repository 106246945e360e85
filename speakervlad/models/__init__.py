"""Front ends, trunks, pooling layers, classifiers: tensors in, tensors out."""
