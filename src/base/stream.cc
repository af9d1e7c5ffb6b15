// See stream.h.
#include "base/stream.h"

#include "base/outgoing.h"

namespace pccl {

int Stream::handshake() {
    if (!is_connected_to_itself(socket_)) return 0;
    reset_on_close(socket_);
    return ECONNREFUSED;
}

}  // namespace pccl
