#!/usr/bin/env bash
# Checks and measures the CUDA backend on the GPU at hand: builds, holds the hardware to the emulated device and whole
# passes to the CPU, measures, and writes benchmarks/results/<gpu>-<commit>.json.
#   bash benchmarks/gpu/run.sh [MODEL_FOLDER ...]
# Needs CMake, a C++ compiler, nvcc and a GPU. Ends with 2 where there is no GPU, with 1 where something is wrong.
set -u
start=$SECONDS
budget=${POC_GPU_SECONDS:-470}  # of the whole call
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
build=${POC_GPU_BUILD:-$root/build/gpu}
export PATH="$PATH:/usr/local/cuda/bin"
jobs=$(nproc 2>/dev/null || echo 4)
wrong=0
summary=()

no_gpu() { echo "no GPU: $1" >&2; exit 2; }
note() { summary+=("$(printf '%-42s %s' "$1" "$2")"); }

# step NAME SECONDS COMMAND...: output to the screen and to NAME.log; never beyond the budget of the call.
step() {
  local name=$1 limit=$2 left=$((budget - (SECONDS - start))) from=$SECONDS code
  shift 2
  ((left < limit)) && limit=$left
  echo "== $name (at most $limit s)"
  if ((limit < 5)); then
    note "$name" "not run: no time left"
    return 124
  fi
  timeout --kill-after=5 "$limit" "$@" 2>&1 | tee "$build/$name.log"
  code=${PIPESTATUS[0]}
  echo "== $name: exit code $code, $((SECONDS - from)) s"
  return "$code"
}

# row ID VALUE UNIT DETAIL: of a check, whose goal is that nothing fails.
row() {
  local detail=${4//\\/}
  printf '{"id": "%s", "value": %s, "unit": "%s", "floor": 0, "goal": 0, "detail": "%s"}\n' "$1" "$2" "$3" \
    "${detail//\"/}" >> "$build/rows"
}

# check NAME SECONDS COMMAND...: a step that prints "N checks, M failed" and is right when M is 0.
check() {
  local name=$1 code last failed
  step "$@"
  code=$?
  last=$(grep -E '^[0-9]+ checks, [0-9]+ failed$' "$build/$name.log" 2>/dev/null | tail -1)
  failed=$(sed -E 's/.*checks, ([0-9]+) failed/\1/' <<< "$last")
  ((code == 2)) && no_gpu "see $build/$name.log"
  ((code == 0 || code == 124 || code == 137)) || wrong=1 # out of time is not wrong
  note "$name" "${last:-no result} (exit code $code)"
  row "$name" "${failed:-null}" "failed" "${last:-no result}, exit code $code"
}

command -v nvidia-smi > /dev/null || no_gpu "nvidia-smi is not there"
gpu=$(nvidia-smi --query-gpu=name --format=csv,noheader 2>/dev/null | head -1)
[[ -n $gpu && $gpu != *rror* && $gpu != *"No devices"* && $gpu != *failed* ]] || no_gpu "nvidia-smi lists none"
for tool in cmake nvcc; do
  command -v $tool > /dev/null || { echo "$tool is not there" >&2; exit 1; }
done
capability=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | head -1)
target=native
[[ $capability =~ ^([0-9]+)\.([0-9]+)$ ]] && target="${BASH_REMATCH[1]}${BASH_REMATCH[2]}-real"
driver=$(nvidia-smi --query-gpu=driver_version --format=csv,noheader 2>/dev/null | head -1)
toolkit=$(nvcc --version | sed -nE 's/.*release ([0-9.]+).*/\1/p')
commit=${POC_COMMIT:-$(git -C "$root" rev-parse --short HEAD 2>/dev/null || echo unknown)}
changes=$(git -C "$root" status --porcelain -- native benchmarks/gpu CMakeLists.txt 2>/dev/null)
[[ -n $changes ]] && changes=" with changes"
echo "$gpu, driver $driver, CUDA $toolkit, target $target, $jobs cores, commit $commit$changes"

mkdir -p "$build"
: > "$build/rows"
rm -f "$build"/*.log "$build/bench.rows"
step configure 60 cmake -S "$root" -B "$build" -DCMAKE_BUILD_TYPE=Release -DPOC_ADDON=OFF -DPOC_TESTS=OFF \
  -DPOC_CUDA=ON "-DPOC_CUDA_TARGETS=$target" -DPOC_GPU_CHECKS=ON "-DPOC_OUT=$build/module" > /dev/null ||
  { cat "$build/configure.log" >&2; exit 1; }
step build 240 cmake --build "$build" --parallel "$jobs" > /dev/null || { tail -40 "$build/build.log" >&2; exit 1; }
note build "$((SECONDS - start)) s"
module=$build/module/libpoc_cuda.so

if [[ -x $build/conformance_reference ]]; then
  step reference 30 "$build/conformance_reference" write "$build/reference" || wrong=1
  check conformance 30 "$build/conformance" compare "$build/reference"
else
  note conformance "not run: the reference needs an x86-64 CPU"
fi

manifests=()
for model in "$@"; do
  manifest=$build/$(basename "$(dirname "$model")")-$(basename "$model").manifest
  if step manifest 20 cmake "-DMODEL=$model" "-DOUT=$manifest" -P "$here/manifest.cmake"; then
    manifests+=("$manifest")
  else
    wrong=1
    note "model $model" "could not be read"
  fi
done
check gpu_check 150 "$build/gpu_check" "$module" ${manifests[@]+"${manifests[@]}"}

step bench 150 "$build/gpu_bench" "$build/bench.rows"
code=$?
((code == 0)) || wrong=1
note bench "exit code $code"

# Last, since they take what time is left. racecheck sees shared memory only, which is where kernels share.
if command -v compute-sanitizer > /dev/null; then
  for tool in memcheck racecheck synccheck; do
    check "$tool" 60 env POC_TEST_QUICK=1 compute-sanitizer --tool "$tool" --error-exitcode 9 \
      "$build/gpu_check" "$module"
  done
else
  note compute-sanitizer "not installed"
fi

[[ -f $build/bench.rows ]] && cat "$build/bench.rows" >> "$build/rows"
slug=$(tr '[:upper:]' '[:lower:]' <<< "$gpu" | sed -E 's/[^a-z0-9]+/-/g; s/^-+|-+$//g')
mkdir -p "$root/benchmarks/results"
result=$root/benchmarks/results/$slug-$commit.json
{
  printf '{\n  "machine": "%s, driver %s, CUDA %s, %s cores",\n' "$gpu" "$driver" "$toolkit" "$jobs"
  printf '  "commit": "%s%s",\n  "date": "%s",\n  "rows": [\n' "$commit" "$changes" "$(date -u +%Y-%m-%d)"
  sed -e 's/^/    /' -e '$!s/$/,/' "$build/rows"
  printf '  ]\n}\n'
} > "$result"

# Shares beside the floor and the goal; a share below its floor is told, and is not an error.
echo
printf '%s\n' "${summary[@]}"
echo
if [[ -f $build/bench.rows ]]; then
  field='([^,]*)' name='"([^"]*)"'
  pattern="^.\"id\": $name, \"value\": $field, \"unit\": $name, \"floor\": $field, \"goal\": $field, .*"
  sed -E "s/$pattern/\1|\2|\3|\4|\5/" \
    "$build/bench.rows" | awk -F'|' '
      function shown(x) { return x == "null" ? "" : x }
      BEGIN { printf "%-42s %10s %-22s %6s %6s\n", "benchmark", "value", "unit", "floor", "goal" }
      { mark = $4 == "null" ? "" : $2 + 0 < $4 + 0 ? "BELOW FLOOR" : $2 + 0 >= $5 + 0 ? "goal reached" : ""
        printf "%-42s %10.4g %-22s %6.4s %6.4s %s\n", $1, $2, $3, shown($4), shown($5), mark }'
fi
echo "$((SECONDS - start)) s; written to ${result#"$root"/}"
exit "$wrong"
