/* The port numbers (and address types) under the header name that older programs include. */
#include <pccl/address.h>
#include <pccl/ports.h>
