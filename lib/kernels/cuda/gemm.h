// Products by cuBLAS.
#pragma once
#include <cublas_v2.h>

#include "kernels/cuda/decode.h"

namespace pensive::kernels {

inline cudaDataType_t cublas_type(Scalar scalar) {
  if (scalar == Scalar::float32) return CUDA_R_32F;
  return scalar == Scalar::bfloat16 ? CUDA_R_16BF : CUDA_R_16F;
}

// Plain, added or wide, without norm and bias.
inline int multiply(cublasHandle_t cublas, const Product& product, Scalar scalar) {
  const float one = 1, before = product.into == Into::added ? 1 : 0;
  const cudaDataType_t type = cublas_type(scalar),
                       of_out = product.into == Into::plain ? type : CUDA_R_32F;
  const cublasStatus_t status =
      cublasGemmEx(cublas, CUBLAS_OP_T, CUBLAS_OP_N, product.out_width, product.rows, product.in,
                   &one, product.weight, type, product.in, product.x, type, product.in, &before,
                   product.out, of_out, product.out_width, CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT);
  return status == CUBLAS_STATUS_SUCCESS ? cudaSuccess : cudaErrorLaunchFailure;
}

}  // namespace pensive::kernels
