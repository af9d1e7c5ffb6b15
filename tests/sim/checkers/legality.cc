#include "checker.h"
#include "sim/cluster.h"

namespace pccl::sim {
namespace {

class Legality : public Checker {
public:
    explicit Legality(Verdict &verdict) : Checker("legality", verdict) {}

    void on_complete(const Node &node, const CallInfo &call, const protocol::Complete &done) override {
        const bool blamed = done.code == pcclInvalidUsage || done.code == pcclPendingAsyncOps || done.code == pcclInternalError ||
                            done.code == pcclInvalidArgument;
        // A second thread may call after the first one has received the error that ended the membership.
        if (!blamed || done.why.starts_with("not connected")) return;
        violated(std::string(name_of(call.kind)) + " of " + node.name + ", which follows the rules, fails with " +
                 std::to_string(done.code) + ": " + done.why);
    }
};

}  // namespace

std::unique_ptr<Checker> check_legality(Verdict &verdict) { return std::make_unique<Legality>(verdict); }

}  // namespace pccl::sim
