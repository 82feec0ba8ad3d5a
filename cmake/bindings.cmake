# The pybind11 module: build information and ISA choice.

execute_process(COMMAND ${GENCV_FAST_PYTHON} -c "import pybind11; print(pybind11.get_cmake_dir(), end='')"
                OUTPUT_VARIABLE pybind11_DIR COMMAND_ERROR_IS_FATAL ANY)
set(Python_EXECUTABLE ${GENCV_FAST_PYTHON})
set(PYBIND11_FINDPYTHON ON)
find_package(pybind11 CONFIG REQUIRED)

pybind11_add_module(_native NO_EXTRAS csrc/bindings/native.cpp)
target_link_libraries(_native PRIVATE gencv_fast_kernels_cpu)
if(GCV_CUDA_ENABLED)
  set(cuda_compiler "nvcc ${CMAKE_CUDA_COMPILER_VERSION}")
  string(REPLACE ";" " " cuda_archs "${GENCV_FAST_CUDA_ARCHS}")
endif()
target_compile_definitions(_native PRIVATE
  GCV_VERSION="${PROJECT_VERSION}" GCV_COMPILER="${CMAKE_CXX_COMPILER_ID} ${CMAKE_CXX_COMPILER_VERSION}"
  GCV_TORCH_TARGET="2.11" GCV_CUDA_COMPILER="${cuda_compiler}" GCV_CUDA_ARCHS="${cuda_archs}")
set_target_properties(_native PROPERTIES INSTALL_RPATH "$ORIGIN/_lib" BUILD_WITH_INSTALL_RPATH ON)
