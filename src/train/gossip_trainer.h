// Gossip: each peer has a model of its own, pushes it to neighbours every sync_every steps, and merges what has come from them.
//
// Two methods. Gossip proper mixes whole models and restores the variance of each tensor. Push-sum keeps a sum x and a weight w,
// of which it gives shares away, and works with x / w: what a post did not deliver is taken back, so that the sum of all x and
// the sum of all w, with those under way, are changed by inner steps alone. (A peer that is lost takes its share of both; a
// newcomer brings a copy with weight 1.)
//
// A peer whose model is not finite drops the inner steps that led there and goes back to its last finite model. In gossip that one counts for
// nothing in its next mix, and a notice that names the tensor takes the place of its message. Push-sum's numerators stay finite, and are
// pushed as ever with a mark, since the sums must be conserved.
//
// Rounds need no barrier. Peers ask for newcomers once per round; the k-th question has one answer everywhere, and once it is yes
// all meet in the k-th round to admit them. So between admissions peers drift as far apart as they train at different speeds.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "train/exchange.h"
#include "train/trainer.h"

namespace pccl::train {

/// Whether `name` is one of `patterns`: names with commas between, with '*' before or after one for any more characters.
bool is_named(const std::string &name, const std::string &patterns);

class GossipTrainer final : public Trainer {
public:
    GossipTrainer(const pcclTrainerConfig_t &config, std::unique_ptr<Collectives> collectives, std::vector<Parameter> parameters);
    ~GossipTrainer() override;

    /// Push-sum's numerator and weight as they are here now. For tests that add them up.
    const double *numerator() const { return state_.sum; }
    double weight() const { return push_weight_; }

private:
    struct Header;  ///< before a model in a message
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
    std::vector<std::uint64_t> posts_;  ///< whose outcome is open; all of the model in state_.outgoing
    double shared_weight_ = 0.0;        ///< push-sum's, in each of them
    std::uint64_t since_ = 0;           ///< inner steps since the last round
    std::uint64_t round_ = 0;           ///< since the last admission: the same for all in step
    std::uint64_t generation_ = 0;      ///< of the admission
    std::size_t merged_now_ = 0;        ///< models that have come since the last merge
    std::size_t in_step_ = 0;           ///< of them, those of this round
    bool unsettled_ = false;            ///< no round was whole since neighbours changed: the new ones may be in another
    double weights_ = 0.0;              ///< of what is in state_.sum (gossip)
    std::uint64_t oldest_age_ = 0;
    std::vector<double> variances_;  ///< of the models in state_.sum, weighted sums by parameter
    double push_weight_ = 1.0;
    pcclPeerId_t from_{};         ///< who sent the last message
    std::size_t not_finite_ = 0;    ///< 1 + the first parameter of this peer's that was not finite in this round; 0: all were
    std::uint32_t streak_ = 0;      ///< rounds in a row in which one was not
    bool posted_notice_ = false;    ///< what is in state_.outgoing is a notice, not a model
};

}  // namespace pccl::train
