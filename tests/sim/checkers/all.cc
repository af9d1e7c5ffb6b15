#include "checker.h"

namespace pccl::sim {

std::vector<std::unique_ptr<Checker>> all_checkers(Verdict &verdict, bool legal_callers) {
    std::vector<std::unique_ptr<Checker>> all;
    all.push_back(check_outcomes(verdict));
    all.push_back(check_views(verdict));
    all.push_back(check_buffers(verdict));
    all.push_back(check_identity(verdict));
    all.push_back(check_answers(verdict));
    all.push_back(check_state(verdict));
    all.push_back(check_repairs(verdict));
    all.push_back(check_graphs(verdict));
    if (legal_callers) all.push_back(check_legality(verdict));
    return all;
}

}  // namespace pccl::sim
