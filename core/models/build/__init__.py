"""Building the shipped models from registry packages: fetch, convert, quantise, and prove the result against the original.

Needs the ``build`` extra (onnx, dlib-bin); nothing else in the platform imports this package.
"""
