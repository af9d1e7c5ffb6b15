// The extension module pccl._pccl: the library's calls, as the Python part of the package needs them. _pccl.pyi describes it.
#include <pccl/exchange.h>
#include <pccl/train.h>

#include "communicator.h"
#include "master.h"
#include "runtime.h"
#include "trainer.h"
#include "view.h"

namespace pccl_python {

namespace {

/// The values of the C headers: the enumerations of the package must equal them.
nb::dict constants() {
    nb::dict all;
#define PCCL_PYTHON_STATUS(name, value, phrase) all[#name] = static_cast<int>(name);
    PCCL_STATUS_TABLE(PCCL_PYTHON_STATUS)
#undef PCCL_PYTHON_STATUS
#define PCCL_PYTHON_VALUE(name) all[#name] = static_cast<int>(name)
    PCCL_PYTHON_VALUE(pcclUint8);
    PCCL_PYTHON_VALUE(pcclInt8);
    PCCL_PYTHON_VALUE(pcclInt16);
    PCCL_PYTHON_VALUE(pcclUint16);
    PCCL_PYTHON_VALUE(pcclUint32);
    PCCL_PYTHON_VALUE(pcclInt32);
    PCCL_PYTHON_VALUE(pcclUint64);
    PCCL_PYTHON_VALUE(pcclInt64);
    PCCL_PYTHON_VALUE(pcclFloat16);
    PCCL_PYTHON_VALUE(pcclBFloat16);
    PCCL_PYTHON_VALUE(pcclFloat);
    PCCL_PYTHON_VALUE(pcclDouble);
    PCCL_PYTHON_VALUE(pcclInt4);
    PCCL_PYTHON_VALUE(pcclUint4);
    PCCL_PYTHON_VALUE(pcclUint2);
    PCCL_PYTHON_VALUE(pcclDeviceCpu);
    PCCL_PYTHON_VALUE(pcclDeviceCuda);
    PCCL_PYTHON_VALUE(pcclSum);
    PCCL_PYTHON_VALUE(pcclAvg);
    PCCL_PYTHON_VALUE(pcclProd);
    PCCL_PYTHON_VALUE(pcclMax);
    PCCL_PYTHON_VALUE(pcclMin);
    PCCL_PYTHON_VALUE(PCCL_ATTRIBUTE_GLOBAL_WORLD_SIZE);
    PCCL_PYTHON_VALUE(PCCL_ATTRIBUTE_PEER_GROUP_WORLD_SIZE);
    PCCL_PYTHON_VALUE(PCCL_ATTRIBUTE_NUM_DISTINCT_PEER_GROUPS);
    PCCL_PYTHON_VALUE(PCCL_ATTRIBUTE_LARGEST_PEER_GROUP_WORLD_SIZE);
    PCCL_PYTHON_VALUE(PCCL_SHARED_STATE_SYNC_STRATEGY_ENFORCE_POPULAR);
    PCCL_PYTHON_VALUE(PCCL_SHARED_STATE_SYNC_STRATEGY_RECEIVE_ONLY);
    PCCL_PYTHON_VALUE(PCCL_SHARED_STATE_SYNC_STRATEGY_SEND_ONLY);
    PCCL_PYTHON_VALUE(pcclDistributionNone);
    PCCL_PYTHON_VALUE(pcclDistributionNormal);
    PCCL_PYTHON_VALUE(pcclDistributionUniform);
    PCCL_PYTHON_VALUE(pcclQuantNone);
    PCCL_PYTHON_VALUE(pcclQuantMinMax);
    PCCL_PYTHON_VALUE(pcclQuantZeroPointScale);
    PCCL_PYTHON_VALUE(pcclQuantBlockScale);
    PCCL_PYTHON_VALUE(pcclScaleFloat);
    PCCL_PYTHON_VALUE(pcclScalePowerOfTwo);
    PCCL_PYTHON_VALUE(pcclAlgorithmAuto);
    PCCL_PYTHON_VALUE(pcclAlgorithmRing);
    PCCL_PYTHON_VALUE(pcclAlgorithmDirect);
    PCCL_PYTHON_VALUE(pcclAlgorithmOneHop);
    PCCL_PYTHON_VALUE(pcclLossPolicyRetry);
    PCCL_PYTHON_VALUE(pcclLossPolicyRepair);
    PCCL_PYTHON_VALUE(pcclCompressionAuto);
    PCCL_PYTHON_VALUE(pcclCompressionOff);
    PCCL_PYTHON_VALUE(pcclCompressionOn);
    PCCL_PYTHON_VALUE(pcclGraphNone);
    PCCL_PYTHON_VALUE(pcclGraphRing);
    PCCL_PYTHON_VALUE(pcclGraphRandomRegular);
    PCCL_PYTHON_VALUE(pcclGraphExponential);
    PCCL_PYTHON_VALUE(pcclGraphBarabasiAlbert);
    PCCL_PYTHON_VALUE(pcclMethodLocal);
    PCCL_PYTHON_VALUE(pcclMethodDiLoCo);
    PCCL_PYTHON_VALUE(pcclMethodAsyncDiLoCo);
    PCCL_PYTHON_VALUE(pcclMethodEagerDiLoCo);
    PCCL_PYTHON_VALUE(pcclMethodStreamingDiLoCo);
    PCCL_PYTHON_VALUE(pcclMethodCO2);
    PCCL_PYTHON_VALUE(pcclMethodGossip);
    PCCL_PYTHON_VALUE(pcclMethodPushSum);
    PCCL_PYTHON_VALUE(pcclOuterSgd);
    PCCL_PYTHON_VALUE(pcclOuterHeavyBall);
    PCCL_PYTHON_VALUE(pcclOuterNesterov);
    PCCL_PYTHON_VALUE(pcclNewcomersDrain);
    PCCL_PYTHON_VALUE(pcclNewcomersSharePending);
    PCCL_PYTHON_VALUE(pcclNewcomersResync);
    PCCL_PYTHON_VALUE(pcclFragmentsStrided);
    PCCL_PYTHON_VALUE(pcclFragmentsSequential);
    PCCL_PYTHON_VALUE(pcclFragmentsEven);
    PCCL_PYTHON_VALUE(pcclPenaltyNone);
    PCCL_PYTHON_VALUE(pcclPenaltyConstant);
    PCCL_PYTHON_VALUE(pcclPenaltyGapAware);
    PCCL_PYTHON_VALUE(pcclPartnersAll);
    PCCL_PYTHON_VALUE(pcclPartnersOne);
    PCCL_PYTHON_VALUE(pcclPartnersNext);
    PCCL_PYTHON_VALUE(pcclMergeAvailable);
    PCCL_PYTHON_VALUE(pcclMergeAfterAll);
    PCCL_PYTHON_VALUE(pcclMergeSynchronous);
    PCCL_PYTHON_VALUE(pcclVarianceOfReceived);
    PCCL_PYTHON_VALUE(pcclVarianceOfOwn);
    PCCL_PYTHON_VALUE(pcclVarianceWeighted);
    PCCL_PYTHON_VALUE(pcclVarianceNone);
    PCCL_PYTHON_VALUE(pcclNonFiniteLeaveOut);
    PCCL_PYTHON_VALUE(pcclNonFiniteFail);
#undef PCCL_PYTHON_VALUE
    return all;
}

/// Version 1 has a module of this name, too. Where both distributions were installed into one folder, its __init__.py imports
/// this extension instead, and would find none of its names.
void refuse_package_of_version_1() {
    const nb::dict modules = nb::module_::import_("sys").attr("modules");
    if (!modules.contains("pccl") || nb::hasattr(modules["pccl"], "_pccl_2")) return;
    throw nb::import_error(
        "cannot import pccl: its __init__.py is that of PCCL version 1 (distribution pypccl), which was installed "
        "over this package. Run `pip uninstall pypccl pccl`, then install pccl again.");
}

}  // namespace

NB_MODULE(_pccl, module) {
    refuse_package_of_version_1();
    nb::set_leak_warnings(false);  // what lives until the end of the interpreter is given back then
    check(pcclInit(), "pcclInit");
    watch_process();
    bind_view(module);
    bind_communicator(module);
    bind_master(module);
    bind_trainer(module);
    module.def("constants", &constants);
    module.def("has_cuda_support", [] {
        pcclBuildInfo_t info{};
        check(pcclGetBuildInfo(&info), "pcclGetBuildInfo");
        return info.has_cuda_support;
    });
    module.def("version", [] {
        int version = 0;
        check(pcclGetVersion(&version), "pcclGetVersion");
        return version;
    });
}

}  // namespace pccl_python
