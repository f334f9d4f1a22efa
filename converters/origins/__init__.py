"""Where models come from: every kind of ``source:``, read, exported to ONNX, and run as it is.

What a person's own code or a framework does with a model happens in a child process: a serving
process that has torch, scikit-learn or mlflow in its memory has 200 MB less for models, and what
crashes or hangs there is a sentence here.
"""
