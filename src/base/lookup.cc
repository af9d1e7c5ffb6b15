// See lookup.h.
#include "base/lookup.h"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <map>
#include <mutex>
#include <system_error>
#include <thread>

#include <netdb.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sys/socket.h>

#include "base/descriptors.h"
#include "base/threads.h"

namespace pccl {
namespace {

struct Free {
    void operator()(addrinfo *list) const { freeaddrinfo(list); }
};

IpAddress to_ip(const addrinfo &found) {
    ccoip_socket_address_t address{};
    std::uint32_t zone = 0;
    if (found.ai_family == AF_INET6) {
        sockaddr_in6 v6;
        std::memcpy(&v6, found.ai_addr, sizeof v6);
        address.inet.protocol = inetIPv6;
        std::copy_n(v6.sin6_addr.s6_addr, 16, address.inet.ipv6.data);
        zone = v6.sin6_scope_id;
    } else {
        sockaddr_in v4;
        std::memcpy(&v4, found.ai_addr, sizeof v4);
        std::memcpy(address.inet.ipv4.data, &v4.sin_addr, 4);
    }
    IpAddress ip = from_c(address).ip;
    if (ip.v6) ip.zone = zone;
    return ip;
}

Result<Lookup::Addresses> ask_system(const std::string &host) {
    const std::string failed = "no address for the host name \"" + host + "\"";
    addrinfo wanted{};
    wanted.ai_family = AF_UNSPEC;
    wanted.ai_socktype = SOCK_STREAM;
    addrinfo *list = nullptr;
    if (const int error = getaddrinfo(host.c_str(), nullptr, &wanted, &list); error != 0) {
        const std::string why = error == EAI_SYSTEM ? std::system_category().message(errno) : std::string(gai_strerror(error));
        return Error{pcclInvalidArgument, failed + ": " + why};
    }
    const std::unique_ptr<addrinfo, Free> owner(list);
    Lookup::Addresses found;
    for (const addrinfo *entry = list; entry; entry = entry->ai_next) {
        if (entry->ai_family == AF_INET || entry->ai_family == AF_INET6) found.push_back(to_ip(*entry));
    }
    if (found.empty()) return Error{pcclInvalidArgument, failed};
    return found;
}

}  // namespace

struct Lookup::Waiter {
    Done done;
};

/// The look-ups that wait, by name. The mutex is held while `done` is called, so that it is not called after its Lookup was
/// destroyed.
struct Lookup::Table {
    std::mutex mutex;
    std::map<std::string, std::vector<std::shared_ptr<Waiter>>> waiters;
};

/// Never destroyed, because a resolver's thread may finish while the process exits. A fork has a separate table, because the
/// threads that answer or hold the mutex exist in its parent only.
Lookup::Table &Lookup::table() {
    static std::mutex *const mutex = new std::mutex;
    static auto &tables = *new std::map<int, Table *>;
    const std::lock_guard lock(*mutex);
    Table *&mine = tables[fork_generation()];
    if (!mine) mine = new Table;
    return *mine;
}

void Lookup::serve(Table &table, const std::string &host) {
    pthread_setname_np(pthread_self(), "pccl-resolver");
    const auto result = ask_system(host);
    const std::lock_guard lock(table.mutex);
    const auto waiting = table.waiters.extract(host);
    for (const auto &waiter : waiting.mapped()) {
        if (waiter->done) waiter->done(result);
        waiter->done = nullptr;
    }
}

Lookup::Lookup(const std::string &host, Done done) : waiter_(std::make_shared<Waiter>(std::move(done))) {
    Table &all = table();
    const std::lock_guard lock(all.mutex);
    auto &waiting = all.waiters[host];
    waiting.push_back(waiter_);
    if (waiting.size() > 1) return;
    try {
        start_without_signals([&all, host] { serve(all, host); }).detach();
    } catch (const std::system_error &error) {
        all.waiters.erase(host);
        waiter_->done(Error{pcclInvalidArgument, "no address for the host name \"" + host +
                                                     "\": cannot start a thread for the resolver: " + error.what()});
        waiter_->done = nullptr;
    }
}

Lookup::~Lookup() {
    const std::lock_guard lock(table().mutex);
    waiter_->done = nullptr;
}

}  // namespace pccl
