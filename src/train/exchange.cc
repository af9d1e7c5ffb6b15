// See train/exchange.h.
#include "train/exchange.h"

namespace pccl::train {
namespace {

class CommunicatorExchange final : public Exchange {
public:
    explicit CommunicatorExchange(pcclComm_t *comm) : comm_(comm) {}

    Outcome set_graph(const pcclGraphOptions_t &graph) override {
        return outcome_of(pcclSetNeighbourGraph(comm_, &graph), "pcclSetNeighbourGraph");
    }

    Outcome neighbours(std::vector<pcclPeerId_t> &out, std::uint64_t &epoch) override {
        for (std::size_t room = 16;;) {
            out.resize(room);
            std::size_t count = 0;
            PCCL_TRAIN_TRY(outcome_of(pcclGetNeighbours(comm_, out.data(), room, &count, &epoch), "pcclGetNeighbours"));
            if (count <= room) {
                out.resize(count);
                return {};
            }
            room = count;
        }
    }

    Outcome post(const pcclPeerId_t &to, std::uint64_t tag, const void *data, std::size_t bytes, std::uint32_t timeout_ms,
                 std::uint64_t &number) override {
        pcclPostOp_t post{};
        const auto outcome = outcome_of(pcclPost(comm_, &to, tag, data, bytes, timeout_ms, &post), "pcclPost");
        number = post.number;
        return outcome;
    }

    Outcome await_post(std::uint64_t number, std::uint32_t timeout_ms) override {
        const pcclPostOp_t post{comm_, number};
        return outcome_of(pcclAwaitPost(&post, timeout_ms), "pcclAwaitPost");
    }

    Outcome receive(std::uint64_t tag, void *buffer, std::size_t capacity, std::uint32_t timeout_ms,
                    pcclMessageInfo_t &info) override {
        return outcome_of(pcclReceive(comm_, tag, buffer, capacity, timeout_ms, &info), "pcclReceive");
    }

    Outcome limit_mailbox(std::uint64_t bytes, std::uint32_t messages) override {
        return outcome_of(pcclSetMailbox(comm_, bytes, messages), "pcclSetMailbox");
    }

private:
    pcclComm_t *comm_;
};

}  // namespace

std::uint64_t number_of(const pcclPeerId_t &rank) {
    std::uint64_t number = 0;
    for (std::size_t i = 8; i < sizeof rank.data; ++i)
        number = number << 8U | rank.data[i];
    return number;
}

std::unique_ptr<Exchange> exchange_of(pcclComm_t *comm) { return std::make_unique<CommunicatorExchange>(comm); }

}  // namespace pccl::train
