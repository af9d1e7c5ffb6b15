// Kernels use the names of src/op without its namespace.
#pragma once

#include "op/element.h"
#include "op/quantization.h"

namespace pccl::kernel {
using namespace op;
}
