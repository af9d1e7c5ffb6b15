#include "checker.h"
#include "sim/cluster.h"

namespace pccl::sim {
namespace {

class Continuity : public Checker {
public:
    explicit Continuity(Verdict &verdict) : Checker("continuity", verdict) {}

    void on_complete(const Node &node, const CallInfo &call, const protocol::Complete &done) override {
        if (call.kind == CallKind::connect) return;  // the master may be down
        require(done.code == pcclSuccess || done.code == pcclTooFewPeers, std::string(name_of(call.kind)) + " of " + node.name +
                                                                              " fails with " + std::to_string(done.code) + ": " +
                                                                              done.why);
    }
};

}  // namespace

std::unique_ptr<Checker> check_continuity(Verdict &verdict) { return std::make_unique<Continuity>(verdict); }

}  // namespace pccl::sim
