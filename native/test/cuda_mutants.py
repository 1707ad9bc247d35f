#!/usr/bin/env python3
"""Plants bugs in a copy of native/, one at a time, and asks the tests of the CUDA backend whether they see them.

Each mutant is built for the emulated device and run in the mode that is written beside it:
  plain   cuda_ops_test or cuda_pass_test as they are, under all schedules
  asan    the same with AddressSanitizer and checked alignment, quick
  tsan    the same with ThreadSanitizer, quick: races between CUDA threads that no schedule happens to show
Exit code 0: the tests pass without a bug and catch every mutant.
"""

import argparse
import concurrent.futures
import os
import pathlib
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass

NATIVE = pathlib.Path(__file__).resolve().parent.parent
COMPILER = os.environ.get("CXX", "g++")
FLAGS = "-std=c++20 -ffp-contract=off -fno-math-errno -Wno-unknown-pragmas -pthread -DPOC_VERSION=\"0\"".split()
DEVICE_FLAGS = "-O1 -mavx2 -mfma".split()
MODES = {
    "plain": [],
    "asan": "-fsanitize=address,alignment -fno-sanitize-recover=alignment".split(),
    "tsan": "-fsanitize=thread".split(),
}


def sources(folder, pattern, *left_out):
    """Names below native/, as CMakeLists.txt compiles them: every file of the folder but these."""
    return [f"{folder}/{file.name}" for file in sorted((NATIVE / folder).glob(pattern)) if file.name not in left_out]


# Mutants never change these, and the CPU backend is only what the others are compared with: built once.
CPU_OPS = ["cpu/" + name for name in ("matmul.cpp", "rmsnorm.cpp", "rope_kv.cpp", "attention.cpp", "swiglu.cpp",
                                      "table.cpp")]
CORE = sources("core", "*.cpp") + [name for name in sources("cpu", "*.cpp") if name not in CPU_OPS]
DEVICE = sources("cuda", "*.cu", "address_range.cu") + sources("cuda", "*.cpp") + ["emulator/address_range.cpp"]
OPS, PASS = "cuda_ops_test", "cuda_pass_test"
# A run is over at the first line that has one of these.
SIGNS = ("CHECK(", "ERROR: AddressSanitizer", "WARNING: ThreadSanitizer", "runtime error:", "FATAL:")
TIMEOUT = 200


@dataclass
class Mutant:
    name: str
    file: str  # below native/cuda
    mode: str
    only: str  # tests whose names contain it; of OPS, unless the test is PASS
    changes: list  # of (old, new)
    test: str = OPS


MUTANTS = []


def mutant(name, file, mode, only, *changes, test=OPS):
    MUTANTS.append(Mutant(name, file, mode, only, list(changes), test))


def sync_missing(name, file, only, before, after, call="__syncthreads();"):
    """A barrier between two pieces of text is gone."""
    mutant(f"{name}: no {call[:-3]}", file, "tsan", only, (before + call + after, before + ";" + after))


A, M, R, T = "attention.cu", "matmul.cu", "rope_kv.cu", "tile.cuh"

# ---- attention: which keys a row sees ----
mutant("a row sees the key after its own", A, "plain", "attention",
       ("key <= last_key(row_in_tile);", "key <= last_key(row_in_tile) + 1;"))
mutant("a row does not see its own key", A, "plain", "attention",
       ("key <= last_key(row_in_tile);", "key < last_key(row_in_tile);"))
mutant("a tile counts as seen by all one key early", A, "plain", "attention",
       ("key + kKeys - 1 <= last_key(0)", "key + kKeys - 2 <= last_key(0)"))
mutant("window one key too long", A, "plain", "attention", ("last + 1 - window : 0", "last - window : 0"))
mutant("the last row's window is forgotten", A, "plain", "attention",
       ("return first_key(static_cast<int>(rows) - 1) <= key", "return first_key(0) <= key"))
mutant("keys begin at the last row's window", A, "plain", "attention",
       ("float out[8][4 * S::kGroups] = {};",
        "float out[8][4 * S::kGroups] = {};\n#define first_key(x) first_key(last_row)\n"
        "  const int last_row = static_cast<int>(rows.rows) - 1;"))
mutant("unseen keys weigh nothing instead of being left out", A, "plain", "attention",
       ("if (!rows.sees(tile.row + i, tile_key + offset + k)) continue;\n      const float weight = ",
        "const float weight = !rows.sees(tile.row + i, tile_key + offset + k) ? 0.0f : "))
# ---- attention: where things are ----
mutant("query heads interleaved over KV heads", A, "plain", "attention",
       ("kv_head = head / args.group", "kv_head = head % (gridDim.y / args.group)"))
mutant("segment search off by one", A, "plain", "attention",
       ("args.spans[at + 1].first_tile <= tile", "args.spans[at + 1].first_tile < tile"))
mutant("later launches take the first segments again", A, "plain", "attention",
       ("size_t i = first; i < op", "size_t i = 0; i < op"))
mutant("V read from the first sequence's slots", A, "plain", "attention",
       ("kv_head, rows.slot_of(args, key + offset)", "kv_head, key + offset"))
mutant("shared keys go on behind their end", A, "plain", "attention",
       (">= args.shared[run].end", "> args.shared[run].end"))
mutant("shared keys are not looked for", A, "plain", "attention",
       ("static_cast<uint32_t>(args.shared[run].first_slot) : s.first_slot", "s.first_slot : s.first_slot"))
mutant("every segment shares what the first one does", A, "plain", "attention",
       ("uint32_t run = s.first_shared;", "uint32_t run = 0;"))
mutant("more shared runs than a launch takes", A, "plain", "attention",
       ("if (num_shared + s.num_shared > kMaxShared) break;", "num_shared %= kMaxShared - 1;"))
mutant("rows of q past the segment are read", A, "plain", "attention",
       ("min(span.rows - first, static_cast<uint32_t>(kRows))", "static_cast<uint32_t>(kRows)"))
# ---- attention: arithmetic ----
mutant("exp of unscaled scores", A, "plain", "attention", ("scores[i][j] = scores[i][j] * scale;", ";"))
mutant("scale folded into q", A, "plain", "attention", ("scores[i][j] = scores[i][j] * scale;", ";"),
       ("head * head_dim + dim] : 0.0f;\n  }\n  if", "head * head_dim + dim] * scale : 0.0f;\n  }\n  if"))
mutant("maximum of the last tile instead of all", A, "plain", "attention",
       ("    const bool all = rows.all_see(key);\n",
        "    const bool all = rows.all_see(key);\n    for (float& top : tops) top = -INFINITY;\n"))
mutant("maximum of the left half of a tile", A, "plain", "attention",
       ("smem.tops[threadIdx.x] = b > a ? b : a;", "smem.tops[threadIdx.x] = a;"))
mutant("maximum over four threads instead of eight", A, "plain", "attention",
       ("lane < 8; lane *= 2", "lane < 4; lane *= 2"))
mutant("sum in descending order", A, "plain", "attention",
       ("for (int k = 0; k < kKeys; ++k)\n    if (rows.sees(row",
        "for (int k = kKeys; k-- > 0;)\n    if (rows.sees(row"))
mutant("multiplication by the sum's inverse", A, "plain", "attention", ("out[i][j] / sum", "out[i][j] * (1.0f / sum)"))
# ---- attention: shared memory ----
mutant("array of weights without its stride", A, "asan", "attention_of_chunks",
       ("carver.take<float>(kRows * kWeightStride)", "carver.take<float>(kRows * kKeys)"))
mutant("array of maxima too short", A, "asan", "attention_of_chunks",
       ("carver.take<float>(2 * kRows)", "carver.take<float>(kRows)"))
mutant("less shared memory than arrays", A, "plain", "attention",
       ("kPiece + 3 * kRows", "kPiece + 2 * kRows"))
sync_missing("attention, piece is still read", A, "attention_of_chunks", "",
             "  // all are done with what stands in `piece`\n    load_k")
sync_missing("attention, K is not there", A, "attention_of_chunks",
             "load_k<T>(smem.piece, args, page_base, dim);\n    ", "")
sync_missing("attention, maxima of halves", A, "attention_of_chunks", "+ tile.row + i] = tops[i];\n  }\n  ", "")
# The one after the halves are joined is not needed: make_scores() begins with another.
sync_missing("attention, weights before the sum", A, "attention_of_chunks", "exp32(scores[i][j] - top);\n  }\n  ", "")
sync_missing("attention, V over what is read", A, "attention_of_chunks", "", "  // weights are there")
sync_missing("attention, V is not there", A, "attention_of_chunks", "S::kValueRows);\n      ", "\n      weigh")
# ---- matmul ----
mutant("product and sum rounded apart", T, "plain", "matmul",
       ("fmaf(a[i][step], b[j], acc[i][4 * group + j])", "a[i][step] * b[j] + acc[i][4 * group + j]"))
mutant("product and sum rounded apart in the tail", T, "plain", "matmul",
       ("fmaf(a_smem[i * a_stride + k], b[j], acc[i][4 * group + j])",
        "a_smem[i * a_stride + k] * b[j] + acc[i][4 * group + j]"))
mutant("a chain for each tile, then added", M, "plain", "matmul",
       ("#pragma unroll 8\n    for", "float part[kFewRows / 4] = {};\n    for"),
       ("acc[i] = fmaf(x_tile[i * kFewInputs + k], weight, acc[i]);\n    }\n",
        "part[i] = fmaf(x_tile[i * kFewInputs + k], weight, part[i]);\n    }\n"
        "    for (int i = 0; i < kFewRows / 4; ++i) acc[i] = acc[i] + part[i];\n"))
mutant("no guard behind the last row", M, "plain", "matmul",
       ("if (row < args.rows && column < args.num_outputs) args.out[row * args.out_stride + column] = acc[i][j];",
        "if (column < args.num_outputs) args.out[row * args.out_stride + column] = acc[i][j];"))
mutant("no guard behind the last output", M, "plain", "matmul",
       ("if (row < args.rows && column < args.num_outputs) args.out[row * args.out_stride + column] = acc[i];",
        "if (row < args.rows) args.out[row * args.out_stride + column] = acc[i];"))
mutant("inputs behind the last one, 128 rows", M, "plain", "matmul",
       ("min(args.num_inputs - k0, static_cast<uint32_t>(kInputs))", "static_cast<uint32_t>(kInputs)"))
mutant("inputs behind the last one, few rows", M, "plain", "matmul",
       ("min(args.num_inputs - number * kFewInputs, static_cast<uint32_t>(kFewInputs))",
        "static_cast<uint32_t>(kFewInputs)"))
mutant("every block takes the panel's first outputs", M, "plain", "matmul",
       (" +\n               first_output % kPanel;", ";"))
mutant("33 rows go to the kernel for few", M, "plain", "matmul",
       ("ceil_div(x.rows, kFewRows));", "2);"), ("x.rows <= 2 * kFewRows", "x.rows <= 2 * kFewRows + 1"))
mutant("the tile's copy is not waited for, 128 rows", M, "plain", "matmul", ("cp_async_wait<0>", "cp_async_wait<1>"))
mutant("one copy too many is left under way", M, "plain", "matmul",
       ("cp_async_wait<kSlots - 2>", "cp_async_wait<kSlots - 1>"))
mutant("the slot in use is filled again", M, "plain", "matmul",
       ("number < kSlots - 1; ++number", "number < kSlots; ++number"),
       ("copy(number + kSlots - 1);", "copy(number + kSlots);"),
       ("cp_async_wait<kSlots - 2>", "cp_async_wait<kSlots - 1>"))
mutant("weights go to the buffer in use", M, "plain", "matmul",
       ("store_w(w_smem + other * kInputs * kPanel, w_rmem)", "store_w(w_smem + slot * kInputs * kPanel, w_rmem)"))
sync_missing("matmul, 128 rows", M, "matmul_of_long", "",
             "  // this tile is there for all; all are done with the other")
sync_missing("matmul, few rows", M, "matmul_of_long", "", "  // this tile is there for all; all are done with the one")
# ---- rmsnorm ----
mutant("tree from the narrow end", "row_norm.cuh", "plain", "rmsnorm",
       ("int width = 16; width > 0; width /= 2", "int width = 1; width < 32; width *= 2"))
mutant("square and sum rounded apart", "row_norm.cuh", "plain", "rmsnorm",
       ("fmaf(x[i], x[i], sum)", "x[i] * x[i] + sum"))
mutant("scale and weight multiplied first", "rmsnorm.cu", "plain", "rmsnorm",
       ("(x[i] * scale) * args.weight[i]", "x[i] * (scale * args.weight[i])"))
mutant("rows behind the last one are normed", "rmsnorm.cu", "plain", "rmsnorm", ("if (row >= args.rows) return;", ""))
# ---- rope_kv ----
mutant("rotation the other way", R, "plain", "rope_kv", ("-(b * sines[i])", "b * sines[i]"))
mutant("rotation rounded apart", R, "plain", "rope_kv",
       ("fmaf(b, cosines[i], a * sines[i])", "b * cosines[i] + a * sines[i]"))
mutant("V is rotated too", R, "plain", "rope_kv", ("               is_k},", "               true},"))
mutant("sample 0 counts as none", R, "plain", "rope_kv", ("op.samples[row] < 0", "op.samples[row] <= 0"))
mutant("sampled row is the row", R, "plain", "rope_kv",
       ("static_cast<size_t>(op.samples[row])", "static_cast<size_t>(row)"))
mutant("slot is the row", R, "plain", "rope_kv", ("op.slots[row], head", "row, head"))
mutant("a warp's head in its neighbour's memory", R, "asan", "rope_kv",
       ("smem.take<float>(kWarps * dim) + warp * dim", "smem.take<float>(kWarps * dim) + (warp + 1) * dim"))
sync_missing("rope_kv, after the bias", R, "rope_kv", "head.in[i];\n  ", "", "__syncwarp();")
sync_missing("rope_kv, after the norm", R, "rope_kv", "head.norm[i];\n    ", "", "__syncwarp();")
# The one before the next head is not needed: there a lane only touches what it has read or written itself.
sync_missing("rope_kv, after the rotation", R, "rope_kv", "a * sines[i]);\n  }\n  ", "", "__syncwarp();")
# ---- the cache's layout, extract ----
mutant("V without padding", "module.cu", "asan", "attention_of",
       ("heads * slots * padded, padded, slots", "heads * slots * padded, dim, slots"))
mutant("V's bytes without padding", "module.cu", "asan", "attention_of_every",
       ("*v_bytes = slots * heads * padded", "*v_bytes = slots * heads * dim"))
mutant("block table ignored", "extract.cu", "plain", "extract",
       ("const size_t page_base = kv_index(args.layout, position, 0, 0);\n  KvLayout inside = args.layout;",
        "KvLayout inside = args.layout;\n  inside.block_table = nullptr;\n"
        "  const size_t page_base = kv_index(inside, position, 0, 0);"))
mutant("block table used twice", "extract.cu", "plain", "extract", ("  inside.block_table = nullptr;\n", ""))
mutant("words behind the row are written", "extract.cu", "plain", "extract",
       ("if (word + i * step < row_words) out", "out"))
mutant("words read across groups of dims", "extract.cu", "plain", "extract", ("layout.dim_split % dims == 0 && ", ""))
mutant("wide words from any address", "extract.cu", "asan", "extract",
       ("reinterpret_cast<uintptr_t>(data) % 16 == 0 &&", ""))
# ---- elementwise, pack ----
mutant("a column too many", "swiglu.cu", "plain", "swiglu", ("return col < args.cols;", "return col <= args.cols;"))
mutant("infinite halves count as finite", "pack.cu", "plain", "pack", ("0x7c00u", "0x7e00u"))
mutant("the last panel is not cleared", "weights.cu", "plain", "panel",
       ("if (weight.rows % kPanel != 0)", "if (false)"))
sync_missing("pack", "pack.cu", "embed", "store_relaxed(args.not_finite, 1);\n  ", "")
# ---- streams and memory ----
mutant("pinned slot filled while it is copied", "weights.cu", "plain", "pack",
       ("if (slot.bytes > 0) slot.done.synchronize();", ""))
mutant("finish() does not wait", "weights.cu", "plain", "", ("  stream_.synchronize();\n", ""))
mutant("kept memory taken without waiting", "memory.cu", "plain", "memory",
       ("if (stream) block.freed->hold_back(*stream);", ""))
mutant("download before the computation", "run.cu", "plain", "", ("    computed.hold_back(backend.downloads);\n", ""),
       test=PASS)
mutant("download read before it has arrived", "run.cu", "plain", "",
       ("waited_ = arrived_.reached();", "waited_ = true;"),
       test=PASS)
mutant("memory is not cleared", "run.cu", "plain", "",
       ("cudaMemsetAsync(data, 0, bytes", "cudaMemsetAsync(data, 1, bytes"))
mutant("stop word ignored", "block.cuh", "plain", "stopped",
       ("return __syncthreads_or(ptx::load_volatile(stop) != 0) != 0;", "return false;"))
mutant("stop word is not set", "run.cu", "plain", "stopped",
       ("cudaMemsetAsync(word, 1", "cudaMemsetAsync(word, 0"))


def call(command, **options):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, **options)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, command))}\n{done.stderr[-3000:]}")


def compile_file(source, target, flags):
    target.parent.mkdir(parents=True, exist_ok=True)
    call([COMPILER, *FLAGS, *flags, "-MMD", "-c", "-x", "c++", source, "-o", target])


def is_fresh(target):
    """Whether a kept object is newer than all it was made of."""
    if not target.exists() or not target.with_suffix(".d").exists():
        return False
    read = target.with_suffix(".d").read_text().replace("\\\n", " ").split()[1:]
    return all(os.path.exists(file) and os.path.getmtime(file) < target.stat().st_mtime for file in read)


def objects_of(work, mode, test):
    """(source, object) of what depends on the mode."""
    names = [*DEVICE, f"test/{test}.cpp"]
    return [(name, work / mode / (name + ".o")) for name in names]


def depends_on(target, file):
    """Whether the compiler read native/cuda/<file> for this object."""
    words = target.with_suffix(".d").read_text().split()
    return any(os.path.normpath(word).endswith(f"/native/cuda/{file}") for word in words)


def build_base(work, needed, pool):
    jobs = [(name, work / "core" / (name + ".o"), ["-O2"]) for name in CORE]
    jobs += [(name, work / "core" / (name + ".o"), ["-O2", "-DPOC_SIMD=plain"]) for name in CPU_OPS]
    for mode, test in needed:
        jobs += [(name, target, [*DEVICE_FLAGS, *MODES[mode]]) for name, target in objects_of(work, mode, test)]
    unique = {target: (name, flags) for name, target, flags in jobs}
    largest_first = sorted(unique.items(), key=lambda job: "attention.cu" not in job[1][0])
    running = [pool.submit(compile_file, work / "native" / name, target, flags)
               for target, (name, flags) in largest_first if not is_fresh(target)]
    for job in running:
        job.result()


def link(work, mode, objects, program):
    core = [work / "core" / (name + ".o") for name in CORE + CPU_OPS]
    call([COMPILER, *MODES[mode], "-pthread", *objects, *core, "-ldl", "-o", program])


def run(program, mode, only):
    """Empty when the program passes, else what it said first."""
    command = [program] + ([only] if only else [])
    environment = dict(os.environ, TSAN_OPTIONS="halt_on_error=1", ASAN_OPTIONS="detect_leaks=0")
    if mode != "plain":
        environment["POC_TEST_QUICK"] = "1"
    if mode == "tsan":
        command = ["setarch", platform.machine(), "-R", *command]
    process = subprocess.Popen(command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                               errors="replace")
    timer = concurrent.futures.ThreadPoolExecutor(1)
    timer.submit(lambda: wait_or_kill(process))
    try:
        lines = []
        for line in process.stdout:
            lines.append(line.strip())
            if any(sign in line for sign in SIGNS):
                process.kill()
                return lines[-1].split("test/")[-1]
        code = process.wait()
        return "" if code == 0 else f"exit code {code}: {lines[-1] if lines else ''}"
    finally:
        process.kill()
        process.wait()
        timer.shutdown()


def wait_or_kill(process):
    try:
        process.wait(TIMEOUT)
    except subprocess.TimeoutExpired:
        process.kill()


def planted(work, number, m):
    """A copy of native/ with the mutant's changes."""
    copy = work / f"mutant{number}" / "native"
    shutil.copytree(work / "native", copy)
    file = copy / "cuda" / m.file
    content = file.read_text()
    for old, new in m.changes:
        if content.count(old) != 1:
            raise RuntimeError(f"{m.name}: {content.count(old)} places in {m.file} for {old!r}")
        content = content.replace(old, new)
    file.write_text(content)
    return copy


def check(work, number, m):
    """(what caught the mutant, or "", seconds)"""
    start = time.monotonic()
    copy = planted(work, number, m)
    objects = []
    for name, target in objects_of(work, m.mode, m.test):
        if depends_on(target, m.file):
            target = copy.parent / (name + ".o")
            compile_file(copy / name, target, [*DEVICE_FLAGS, *MODES[m.mode]])
        objects.append(target)
    link(work, m.mode, objects, copy.parent / m.test)
    said = run(copy.parent / m.test, m.mode, m.only)
    shutil.rmtree(copy.parent)
    return said, time.monotonic() - start


def check_unmutated(work, mode, test):
    program = work / mode / test
    link(work, mode, [target for _, target in objects_of(work, mode, test)], program)
    return run(program, mode, "")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", metavar="TEXT", help="mutants whose file or name contains it")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--mode", choices=MODES, help="mutants that this mode catches")
    parser.add_argument("--keep", metavar="FOLDER", help="where objects without a bug are kept for the next time")
    options = parser.parse_args()
    chosen = [m for m in MUTANTS if options.only in f"{m.file}: {m.name}" and options.mode in (None, m.mode)]
    missed = []
    with tempfile.TemporaryDirectory(prefix="poc_mutants_") as temporary:
        work = pathlib.Path(options.keep or temporary)
        shutil.rmtree(work / "native", ignore_errors=True)
        shutil.copytree(NATIVE, work / "native", ignore=shutil.ignore_patterns("binding"))  # with its times
        for number, m in enumerate(MUTANTS):  # all strings are looked for before anything is built
            shutil.rmtree(planted(work, number, m).parent)
        needed = sorted({(m.mode, m.test) for m in chosen})
        with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
            build_base(work, needed, pool)
            print(f"built in {time.monotonic() - START:.0f} s", flush=True)
            clean = {pool.submit(check_unmutated, work, *what): what for what in needed}
            for job in concurrent.futures.as_completed(clean):
                print(f"without a bug: {clean[job]}: {job.result() or 'passes'}", flush=True)
                if job.result():
                    missed.append(f"{clean[job]} fails without a bug")
            jobs = [(pool.submit(check, work, number, m), m) for number, m in enumerate(chosen)]
            for job, m in jobs:
                said, seconds = job.result()
                caught = m.mode if said else "MISSED"
                print(f"{caught:7}{seconds:4.0f} s  {m.file}: {m.name}\n    {said}"[:300], flush=True)
                if not said:
                    missed.append(f"{m.file}: {m.name}")
    print(f"{len(chosen)} mutants in {time.monotonic() - START:.0f} s, missed: {missed or 'none'}")
    return 1 if missed else 0


START = time.monotonic()
if __name__ == "__main__":
    sys.exit(main())
