"""Prints the median of bare ONNX Runtime calls in ms: raw_call.py MODEL INPUT SECONDS."""

import statistics
import sys
import time

import numpy as np
import onnxruntime

options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(sys.argv[1], options)
shape = [1, *session.get_inputs()[0].shape[1:]]
feed = {sys.argv[2]: np.zeros(shape, np.float32)}
samples_s: list[float] = []
until = time.perf_counter() + float(sys.argv[3])
while (start := time.perf_counter()) < until:
    session.run(None, feed)
    samples_s.append(time.perf_counter() - start)
print(statistics.median(samples_s[10:]) * 1e3)
