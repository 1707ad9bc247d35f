// Per-environment state of the addon.
#pragma once
#include "executor.h"

namespace poc::binding {

Executor& executor(Napi::Env env);

}  // namespace poc::binding
