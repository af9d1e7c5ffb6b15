// A name look-up that its caller need not wait for: the system's resolver works on a thread of its own.
//
// The resolver takes as long as it takes, and cannot be interrupted. Whoever gives up destroys the Lookup: its thread then ends
// by itself, with what it found dropped. Look-ups of one name at the same time share a thread, so that a name server that does
// not answer does not gather threads.
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
    /// Called once, on the resolver's thread (on the caller's if no thread can be made). It must not destroy the Lookup, and not
    /// block.
    using Done = std::function<void(const Result<Addresses> &)>;

    /// Begins to look for `host`, a name. The result is its addresses in the system's order, at least one.
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
