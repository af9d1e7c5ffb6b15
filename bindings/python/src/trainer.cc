#include "trainer.h"

#include <pccl/extend.h>

#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

namespace pccl_python {

namespace {

template <class E> E enumerator(int value) { return static_cast<E>(value); }

pcclTensorInfo_t info_of(const std::string &name, const View &view) {
    pcclTensorInfo_t info{};
    info.name = name.c_str();
    info.data = view.data();
    info.count = view.count();
    info.datatype = view.datatype();
    info.device_type = pcclDeviceCpu;
    return info;
}

/// Takes settings out of a dictionary by name. A name that remains at the end is unknown.
class Settings {
public:
    explicit Settings(const nb::dict &from) { rest_.update(from); }

    template <class T> void number(const char *name, T &field) {
        if (rest_.contains(name) && !nb::try_cast(take(name), field)) refuse(name);
    }
    template <class E> void enumeration(const char *name, E &field) {
        int value = 0;
        if (!rest_.contains(name)) return;
        if (!nb::try_cast(take(name), value)) refuse(name);
        field = enumerator<E>(value);
    }
    nb::object take(const char *name) {
        nb::object value = rest_[name];
        nb::del(rest_[name]);
        return value;
    }
    bool has(const char *name) const { return rest_.contains(name); }
    void check_empty() const {
        if (rest_.size() != 0)
            throw nb::type_error(("a trainer has no setting " + nb::cast<std::string>(nb::str(nb::list(rest_.keys())))).c_str());
    }

private:
    [[noreturn]] static void refuse(const char *name) {
        const std::string why = std::string("the setting ") + name + " has a value of a wrong type: see the method's docstring";
        throw nb::type_error(why.c_str());
    }

    nb::dict rest_;
};

pcclTrainerStatus_t empty_status() {
    pcclTrainerStatus_t status;
    (void)pcclTrainerStatusInit(&status);
    return status;
}

}  // namespace

/// The library's defaults for a method, by the names of pcclTrainerConfig_t: signatures in Python must equal them.
static nb::dict trainer_defaults(int method) {
    pcclTrainerConfig_t c;
    check(pcclTrainerConfigInit(&c, enumerator<pcclMethod_t>(method)), "pcclTrainerConfigInit");
    nb::dict all;
    all["sync_every"] = c.sync_every;
    all["outer_optimizer"] = static_cast<int>(c.outer_optimizer);
    all["outer_learning_rate"] = c.outer_learning_rate;
    all["outer_momentum"] = c.outer_momentum;
    all["newcomers"] = static_cast<int>(c.newcomers);
    all["fragment_pattern"] = static_cast<int>(c.fragment_pattern);
    all["fragments"] = c.fragments;
    all["overlap_steps"] = c.overlap_steps;
    all["mixing"] = c.mixing;
    all["penalty_mode"] = static_cast<int>(c.penalty_mode);
    all["penalty"] = c.penalty;
    all["clip_momentum"] = c.clip_momentum;
    all["weighted"] = c.weighted;
    all["round_ms"] = c.round_ms;
    all["min_peers"] = c.min_peers;
    all["rejoin_ms"] = c.rejoin_ms;
    all["verify_every"] = c.verify_every;
    all["optimize_topology"] = c.optimize_topology;
    all["sharded"] = c.sharded;
    all["graph"] = static_cast<int>(c.graph);
    all["graph_degree"] = c.graph_degree;
    all["graph_seed"] = c.graph_seed;
    all["partners"] = static_cast<int>(c.partners);
    all["merge"] = static_cast<int>(c.merge);
    all["exchange_wait_ms"] = c.exchange_wait_ms;
    all["own_weight"] = c.own_weight;
    all["variance"] = static_cast<int>(c.variance);
    all["weigh_by_age"] = c.weigh_by_age;
    all["non_finite"] = static_cast<int>(c.non_finite);
    return all;
}

Trainer::Trainer(const nb::object &communicator, int method, const nb::list &parameters, const nb::dict &settings)
    : communicator_(communicator) {
    pcclTrainerConfig_t config;
    check(pcclTrainerConfigInit(&config, enumerator<pcclMethod_t>(method)), "pcclTrainerConfigInit");
    Settings given(settings);
    given.number("sync_every", config.sync_every);
    given.enumeration("outer_optimizer", config.outer_optimizer);
    given.number("outer_learning_rate", config.outer_learning_rate);
    given.number("outer_momentum", config.outer_momentum);
    given.enumeration("newcomers", config.newcomers);
    given.enumeration("fragment_pattern", config.fragment_pattern);
    given.number("fragments", config.fragments);
    given.number("overlap_steps", config.overlap_steps);
    given.number("mixing", config.mixing);
    given.enumeration("penalty_mode", config.penalty_mode);
    given.number("penalty", config.penalty);
    given.number("clip_momentum", config.clip_momentum);
    given.number("weighted", config.weighted);
    given.number("round_ms", config.round_ms);
    given.number("min_peers", config.min_peers);
    given.number("rejoin_ms", config.rejoin_ms);
    given.number("verify_every", config.verify_every);
    given.number("optimize_topology", config.optimize_topology);
    given.number("sharded", config.sharded);
    given.enumeration("graph", config.graph);
    given.number("graph_degree", config.graph_degree);
    given.number("graph_seed", config.graph_seed);
    given.enumeration("partners", config.partners);
    given.enumeration("merge", config.merge);
    given.number("exchange_wait_ms", config.exchange_wait_ms);
    given.number("own_weight", config.own_weight);
    given.enumeration("variance", config.variance);
    given.number("weigh_by_age", config.weigh_by_age);
    given.enumeration("non_finite", config.non_finite);
    std::string uncorrected;
    if (given.has("uncorrected")) {
        uncorrected = nb::cast<std::string>(given.take("uncorrected"));
        config.uncorrected = uncorrected.c_str();
    }
    std::string state_file;
    if (given.has("state_file")) {
        state_file = nb::cast<std::string>(given.take("state_file"));
        config.state_file = state_file.c_str();
    }
    pcclReduceOptions_t options;
    if (given.has("reduce")) {
        const auto spec = nb::cast<ReduceSpec>(given.take("reduce"));
        options = spec.options();
        config.reduce = &options;
        config.quantization = spec.descriptor(1, pcclFloat).quantization_options;
    }
    if (given.has("island_consensus")) {
        island_consensus_ = given.take("island_consensus");
        config.island_consensus = &Trainer::agree_with_island;
        config.agree_context = this;
    }
    given.check_empty();

    std::vector<std::string> names;
    std::vector<pcclTensorInfo_t> infos;
    names.reserve(parameters.size());
    for (const nb::handle item : parameters) {
        const auto pair = nb::cast<nb::tuple>(item);
        names.push_back(nb::cast<std::string>(pair[0]));
        infos.push_back(info_of(names.back(), nb::cast<const View &>(pair[1])));
        kept_[names.back()] = pair[1];
    }
    names_ = names;
    pcclComm_t *comm = communicator.is_none() ? nullptr : nb::cast<Communicator &>(communicator).handle();
    check(pcclCreateTrainer(&config, comm, infos.data(), infos.size(), &trainer_), "pcclCreateTrainer");
}

Trainer::~Trainer() { close(); }

/// Runs on the thread of a call of the trainer, which does not hold the GIL.
pcclResult_t Trainer::agree_with_island(void *self, std::uint32_t question, std::uint64_t *value) {
    const nb::gil_scoped_acquire lock;
    const nb::error_scope aside;  // a signal handler may have raised an exception already
    try {
        const auto answer = nb::cast<std::int64_t>(static_cast<Trainer *>(self)->island_consensus_(question, *value));
        if (answer >= 0) {
            *value = static_cast<std::uint64_t>(answer);
            return pcclSuccess;
        }
        pcclSetLastError("a process of this island was lost");
    } catch (const std::exception &error) {
        pcclSetLastError(error.what());
    }
    return pcclMasterConnectionFailed;
}

void Trainer::interrupt_calls() { (void)pcclTrainerInterrupt(trainer_); }

void Trainer::release() {
    if (trainer_) (void)pcclDestroyTrainer(trainer_);
}

void Trainer::released() {
    kept_.clear();
    communicator_.reset();
    island_consensus_.reset();
}

void Trainer::share(const nb::list &tensors) {
    check_usable("pcclTrainerShare");
    std::vector<std::string> names;
    std::vector<pcclTensorInfo_t> infos;
    names.reserve(tensors.size());
    for (const nb::handle item : tensors) {
        const auto triple = nb::cast<nb::tuple>(item);
        names.push_back(nb::cast<std::string>(triple[0]));
        infos.push_back(info_of(names.back(), nb::cast<const View &>(triple[1])));
        infos.back().allow_content_inequality = nb::cast<bool>(triple[2]);
        kept_[names.back()] = triple[1];
    }
    check(pcclTrainerShare(trainer_, infos.data(), infos.size()), "pcclTrainerShare");
}

void Trainer::describe(const std::vector<std::string> &lines) {
    check_usable("pcclTrainerDescribe");
    std::vector<const char *> texts;
    texts.reserve(lines.size());
    for (const std::string &line : lines)
        texts.push_back(line.c_str());
    check(pcclTrainerDescribe(trainer_, texts.data(), texts.size()), "pcclTrainerDescribe");
}

void Trainer::relocate(const std::string &name, const nb::object &view) {
    check_usable("pcclTrainerRelocate");
    check(pcclTrainerRelocate(trainer_, name.c_str(), nb::cast<const View &>(view).data()), "pcclTrainerRelocate");
    kept_[name] = view;
}

void Trainer::join(std::optional<double> timeout) {
    blocking(*this, "pcclTrainerJoin", deadline_after(timeout), [&] {
        return pcclTrainerJoin(trainer_);
    }).check("pcclTrainerJoin");
}

nb::tuple Trainer::to_tuple(const pcclTrainerStatus_t &s) const {
    const bool named = s.non_finite_rounds != 0 && s.non_finite_tensor < names_.size();
    return nb::make_tuple(s.events, s.world_size, s.contributors, s.outer_steps, s.inner_steps, s.tx_bytes, s.rx_bytes,
                          s.communicating_s, s.blocked_s, s.digest, s.penalty, s.push_weight, s.models_sent, s.models_undelivered,
                          s.models_received, s.models_refused, s.non_finite_rounds, s.non_finite_peer,
                          named ? nb::object(nb::str(names_[s.non_finite_tensor].c_str())) : nb::none(), s.left_out);
}

template <class F> nb::tuple Trainer::reporting(const char *function, std::optional<double> timeout, F call) {
    pcclTrainerStatus_t status = empty_status();
    blocking(*this, function, deadline_after(timeout), [&] { return call(trainer_, &status); }).check(function);
    return to_tuple(status);
}

nb::tuple Trainer::step(std::optional<double> timeout) { return reporting("pcclTrainerStep", timeout, pcclTrainerStep); }
nb::tuple Trainer::end_round(std::optional<double> timeout) {
    return reporting("pcclTrainerEndRound", timeout, pcclTrainerEndRound);
}
nb::tuple Trainer::finish(std::optional<double> timeout) { return reporting("pcclTrainerFinish", timeout, pcclTrainerFinish); }

nb::tuple Trainer::status() const {
    check_usable("pcclTrainerGetStatus");
    pcclTrainerStatus_t status = empty_status();
    check(pcclTrainerGetStatus(trainer_, &status), "pcclTrainerGetStatus");
    return to_tuple(status);
}

bool Trainer::is_due() const {
    check_usable("pcclTrainerIsDue");
    bool due = true;
    check(pcclTrainerIsDue(trainer_, &due), "pcclTrainerIsDue");
    return due;
}

void Trainer::add_weight(double weight) {
    check_usable("pcclTrainerAddWeight");
    check(pcclTrainerAddWeight(trainer_, weight), "pcclTrainerAddWeight");
}

void Trainer::outer_parameters(std::size_t index, const View &out) const {
    check_usable("pcclTrainerGetOuterParameters");
    if (out.datatype() != pcclFloat) throw nb::type_error("outer parameters are float32");
    check(pcclTrainerGetOuterParameters(trainer_, index, static_cast<float *>(out.data())), "pcclTrainerGetOuterParameters");
}

void Trainer::save(const std::string &path) {
    blocking(*this, "pcclTrainerSave", {}, [&] { return pcclTrainerSave(trainer_, path.c_str()); }).check("pcclTrainerSave");
}

void Trainer::load(const std::string &path) {
    blocking(*this, "pcclTrainerLoad", {}, [&] { return pcclTrainerLoad(trainer_, path.c_str()); }).check("pcclTrainerLoad");
}

void bind_trainer(nb::module_ &module) {
    nb::class_<Trainer>(module, "Trainer", nb::is_weak_referenceable())
        .def(nb::init<const nb::object &, int, const nb::list &, const nb::dict &>(), nb::arg("communicator").none(),
             nb::arg("method"), nb::arg("parameters"), nb::arg("settings"))
        .def("share", &Trainer::share)
        .def("describe", &Trainer::describe)
        .def("relocate", &Trainer::relocate)
        .def("join", &Trainer::join, nb::arg("timeout").none())
        .def("step", &Trainer::step, nb::arg("timeout").none())
        .def("end_round", &Trainer::end_round, nb::arg("timeout").none())
        .def("finish", &Trainer::finish, nb::arg("timeout").none())
        .def("status", &Trainer::status)
        .def("is_due", &Trainer::is_due)
        .def("add_weight", &Trainer::add_weight)
        .def("outer_parameters", &Trainer::outer_parameters)
        .def("save", &Trainer::save)
        .def("load", &Trainer::load)
        .def("close", &Trainer::close)
        .def_prop_ro("closed", &Trainer::closed);
    module.def("trainer_defaults", &trainer_defaults, nb::arg("method"));
    nb::dict events;
    events["outer_step"] = PCCL_TRAINER_OUTER_STEP;
    events["world_grew"] = PCCL_TRAINER_WORLD_GREW;
    events["world_shrank"] = PCCL_TRAINER_WORLD_SHRANK;
    events["state_received"] = PCCL_TRAINER_STATE_RECEIVED;
    events["rejoined"] = PCCL_TRAINER_REJOINED;
    events["diverged"] = PCCL_TRAINER_DIVERGED;
    events["non_finite"] = PCCL_TRAINER_NON_FINITE;
    module.attr("trainer_events") = events;
}

}  // namespace pccl_python
