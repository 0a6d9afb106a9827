"""What other software already speaks: CompreFace, Amazon Rekognition, DeepStack. The same gallery, the same keys, the same audit."""
