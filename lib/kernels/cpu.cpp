// to come: fused loops
