# Sourced before CMake runs: points it to the virtual environment's CUDA compiler where no other is chosen.
if [ -z "${CUDACXX:-}" ]; then
  for root in "$PWD"/.venv/lib/python3*/site-packages/nvidia/cu13; do
    [ -x "$root/bin/nvcc" ] && export CUDACXX="$root/bin/nvcc" CUDAFLAGS="${CUDAFLAGS:-} -L$root/lib"
  done
fi
