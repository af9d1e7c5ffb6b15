// An asynchronous name look-up: the system's resolver runs on a separate thread.
//
// The resolver can take arbitrarily long, and cannot be interrupted. To give up, the caller destroys the Lookup; the thread then
// ends by itself, and its result is discarded. Simultaneous look-ups of one name share a thread, so that threads do not
// accumulate while a name server does not answer.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/address.h"
#include "base/result.h"

namespace pccl {

class Lookup {
public:
    using Addresses = std::vector<IpAddress>;
    /// Called once, on the resolver's thread, or on the caller's thread if no thread can be started. It must not destroy the
    /// Lookup, and must not block.
    using Done = std::function<void(const Result<Addresses> &)>;

    /// Starts to look up `host`, a name. The result is its addresses in the system's order, at least one.
    /// Error: pcclInvalidArgument with the name and the resolver's reason.
    Lookup(const std::string &host, Done done);
    /// `done` is not called after this. Does not wait for the resolver.
    ~Lookup();
    Lookup(const Lookup &) = delete;
    Lookup &operator=(const Lookup &) = delete;

private:
    struct Waiter;
    struct Table;
    static Table &table();
    static void serve(Table &table, const std::string &host);

    std::shared_ptr<Waiter> waiter_;
};

}  // namespace pccl
