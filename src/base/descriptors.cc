#include "base/descriptors.h"

#include <atomic>
#include <cerrno>
#include <map>
#include <mutex>

#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>

namespace pccl {
namespace {

std::atomic<int> generation{0};

/// The sockets that were made here, by number, each with its inode. A socket is not taken out when it is closed: where the number
/// belongs to something else by then, the inode tells.
struct Made {
    std::mutex mutex;  ///< held while a socket is made, so that no fork happens between its making and its note
    std::map<int, ino_t> sockets;
};

/// Never destroyed: threads may make sockets while the process exits.
Made &made() {
    static Made &instance = *new Made;
    return instance;
}

ino_t inode_of(int fd) {
    struct stat status {};
    return ::fstat(fd, &status) == 0 && S_ISSOCK(status.st_mode) ? status.st_ino : 0;
}

/// In the child, whose only thread this is; without memory allocation.
void close_made() {
    ++generation;
    for (const auto &[fd, inode] : made().sockets) {
        if (inode != 0 && inode_of(fd) == inode) ::close(fd);
    }
    made().mutex.unlock();
}

void watch_forks() {
    static const int done = ::pthread_atfork([] { made().mutex.lock(); }, [] { made().mutex.unlock(); }, close_made);
    static_cast<void>(done);
}

/// Notes a socket. The mutex is held.
Fd noted(int fd) {
    Fd socket(fd);
    if (socket) made().sockets[fd] = inode_of(fd);
    return socket;
}

}  // namespace

Fd open_stream(bool v6) {
    watch_forks();
    const std::lock_guard lock(made().mutex);
    return noted(::socket(v6 ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
}

Fd accept_stream(int listener, sockaddr *from, socklen_t *size) {
    watch_forks();
    const std::lock_guard lock(made().mutex);
    return noted(::accept4(listener, from, size, SOCK_NONBLOCK | SOCK_CLOEXEC));
}

void reserve_standard_descriptors() {
    for (int fd = 0; fd <= 2; ++fd) {
        if (::fcntl(fd, F_GETFD) >= 0 || errno != EBADF) continue;
        // The lowest free number is given, which is this one. Programs that are started inherit it, as they would a terminal.
        const int opened = ::open("/dev/null", O_RDWR);
        if (opened > 2) ::close(opened);
    }
}

int fork_generation() {
    watch_forks();
    return generation.load(std::memory_order_relaxed);
}

}  // namespace pccl
