// See listener.h.
#include "master/listener.h"

#include <cerrno>

#include "base/log.h"

namespace pccl::master {
namespace {

constexpr int kAcceptsAtOnce = 64;
constexpr Duration kPause = std::chrono::milliseconds(200);

}  // namespace

Status Listener::start(uv_loop_t &loop) {
    const int error = uv_poll_init(&loop, &poll_, socket_.get());
    if (error != 0) return Error{pcclInternalError, std::string("cannot watch the listening socket: ") + uv_strerror(error)};
    poll_.data = this;
    started_ = true;
    resume();
    return {};
}

void Listener::resume() {
    paused_until_.reset();
    uv_poll_start(&poll_, UV_READABLE, [](uv_poll_t *poll, int, int) { static_cast<Listener *>(poll->data)->accept_some(); });
}

void Listener::accept_some() {
    for (int i = 0; i < kAcceptsAtOnce; ++i) {
        Accepted accepted = accept_on(socket_);
        if (accepted.socket) {
            callbacks_.on_accepted(std::move(accepted));
            continue;
        }
        switch (accepted.error) {
        case EAGAIN: return;
        case EMFILE:
        case ENFILE:
        case ENOBUFS:
        case ENOMEM:
            if (!callbacks_.on_shortage()) return pause(accepted.error);
            break;
        default: break;  // the connection has ended already
        }
    }
}

void Listener::pause(int error) {
    PCCL_LOG_WARN("cannot accept connections at present: %s. Retrying", error_text(error).c_str());
    uv_poll_stop(&poll_);
    paused_until_ = monotonic_now() + kPause;
}

void Listener::close() {
    if (started_) uv_close(reinterpret_cast<uv_handle_t *>(&poll_), nullptr);
    started_ = false;
    paused_until_.reset();
    socket_.reset();
}

}  // namespace pccl::master
