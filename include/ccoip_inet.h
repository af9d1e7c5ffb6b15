/* The address types under the header name that older programs include. */
#include <pccl/address.h>
