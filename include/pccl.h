/* Convenience spelling of <pccl/pccl.h>. */
#include <pccl/pccl.h>
