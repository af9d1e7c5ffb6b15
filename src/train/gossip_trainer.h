// Gossip: each peer has its own model, pushes it to neighbours every sync_every steps, and merges the models that it has
// received.
//
// There are two methods. Gossip mixes whole models and restores the variance of each tensor. Push-sum keeps a sum x and a weight
// w, sends shares of both to neighbours, and trains with x / w. It takes back the share of a post that was not delivered. The sum
// of all x and the sum of all w, including the shares in flight, are therefore changed only by inner steps. A lost peer takes its
// share of both with it. A newcomer adds a copy with weight 1.
//
// A peer whose model is not finite discards the inner steps that led there and returns to its last finite model. In gossip that
// model has weight 0 in the peer's next mix, and the peer sends a notice that names the tensor in place of its model. The
// numerators of push-sum stay finite. They are pushed as usual, with a mark, because the sums must be conserved.
//
// Rounds need no barrier. Peers ask for newcomers once per round. The k-th question has the same answer at all members. When it
// is yes, all members meet in the k-th round to admit the newcomers. Between admissions, peers that train at different speeds
// drift apart.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "train/exchange.h"
#include "train/trainer.h"

namespace pccl::train {

/// Whether `name` matches one of `patterns`: names separated by commas. A '*' at the start or end of a pattern matches any
/// characters.
bool is_named(const std::string &name, const std::string &patterns);

class GossipTrainer final : public Trainer {
public:
    GossipTrainer(const pcclTrainerConfig_t &config, std::unique_ptr<Collectives> collectives, std::vector<Parameter> parameters);
    ~GossipTrainer() override;

    /// The present numerator and weight of push-sum. For tests that add them up over all peers.
    const double *numerator() const { return state_.sum; }
    double weight() const { return push_weight_; }

private:
    struct Header;  ///< precedes a model in a message
    enum class Got { message, nothing, no_more };

    Outcome open() override;
    Outcome advance(bool end_round) override;
    Outcome settled(const Agreed &agreed) override;
    void abandon() override;
    Outcome conclude() override;
    bool members_agree() const override { return false; }

    bool pushes_sums() const { return method_.exchange == ModelExchange::sums; }
    std::size_t message_bytes() const { return (kHeaderFloats + state_.size) * sizeof(float); }
    Outcome round();
    Outcome boundary();
    Outcome capture();
    bool find_not_finite();
    void settle_posts(std::uint32_t timeout_ms);
    void push();
    std::vector<pcclPeerId_t> choose(const std::vector<pcclPeerId_t> &neighbours) const;
    void fill_message(double share);
    bool post_to(const pcclPeerId_t &to, std::uint32_t timeout_ms);
    void take_back();
    void collect();
    Got receive(std::uint64_t tag, std::uint32_t timeout_ms, Header &header);
    bool refuse(const std::string &why);
    bool hear_notice(const Header &header);
    std::string sender() const { return "peer " + std::to_string(number_of(from_)); }
    std::size_t posted_bytes() const;
    bool absorb(const Header &header);
    std::size_t expected() const;
    bool somebody_is_ahead();
    void merge();
    void hand_over();
    std::uint64_t tag_of(std::uint64_t round) const;

    std::string uncorrected_;
    std::vector<bool> corrected_;  ///< by parameter
    std::vector<pcclPeerId_t> neighbours_;
    std::uint64_t neighbours_epoch_ = 0;
    std::vector<std::uint64_t> posts_;  ///< posts without an outcome yet; all of them send the model in state_.outgoing
    double shared_weight_ = 0.0;        ///< push-sum's weight in each post
    std::uint64_t since_ = 0;           ///< inner steps since the last round
    std::uint64_t round_ = 0;           ///< rounds since the last admission; equal at all peers in step
    std::uint64_t generation_ = 0;      ///< number of the admission
    std::size_t merged_now_ = 0;        ///< models received since the last merge
    std::size_t in_step_ = 0;           ///< models of this round among them
    bool unsettled_ = false;            ///< no complete round since the neighbours changed: new ones may be in another round
    double weights_ = 0.0;              ///< sum of the weights in state_.sum (gossip)
    std::uint64_t oldest_age_ = 0;
    std::vector<double> variances_;  ///< weighted sums of the variances of the models in state_.sum, by parameter
    double push_weight_ = 1.0;
    pcclPeerId_t from_{};         ///< sender of the last message
    std::size_t not_finite_ = 0;  ///< 1 + this peer's first parameter that was not finite in this round; 0: none
    std::uint32_t streak_ = 0;    ///< rounds in a row in which a parameter was not finite
    bool posted_notice_ = false;  ///< state_.outgoing holds a notice, not a model
};

}  // namespace pccl::train
