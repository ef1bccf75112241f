# Finds each package once. A message that fails names what to install.
find_package(fmt REQUIRED)
find_package(nlohmann_json REQUIRED)
find_package(Eigen3 REQUIRED NO_MODULE)
find_package(Threads REQUIRED)

# --- torch: imported by hand, since its own CMake files demand a CUDA toolkit where torch has CUDA.
if(NOT PENSIVE_TORCH)
  set(python ${PROJECT_SOURCE_DIR}/.setup/venv/bin/python)
  if(NOT EXISTS ${python})
    find_program(python_found NAMES python3 python REQUIRED)
    set(python ${python_found})
  endif()
  execute_process(COMMAND ${python} -c
    "import importlib.util as u; print(u.find_spec('torch').submodule_search_locations[0])"
    OUTPUT_VARIABLE torch_found OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET RESULT_VARIABLE failed)
  if(failed)
    message(FATAL_ERROR "torch 2.11 is needed: './run build' sets it up, or name its folder "
                        "with -DPENSIVE_TORCH=DIR")
  endif()
  set(PENSIVE_TORCH ${torch_found} CACHE PATH "the folder of an installed torch" FORCE)
endif()
file(STRINGS ${PENSIVE_TORCH}/include/torch/headeronly/version.h version_lines
     REGEX "define TORCH_VERSION_M(AJOR|INOR) ")
string(REGEX REPLACE "[^0-9;]+" "" PENSIVE_TORCH_VERSION "${version_lines}")
string(REPLACE ";" "." PENSIVE_TORCH_VERSION "${PENSIVE_TORCH_VERSION}")
if(NOT PENSIVE_TORCH_VERSION STREQUAL "2.11")
  message(FATAL_ERROR "expected torch 2.11; found ${PENSIVE_TORCH_VERSION} (${PENSIVE_TORCH})")
endif()
add_library(pensive_torch INTERFACE)
target_include_directories(pensive_torch SYSTEM INTERFACE ${PENSIVE_TORCH}/include)
target_link_libraries(pensive_torch INTERFACE ${PENSIVE_TORCH}/lib/libtorch_cpu.so
                                              ${PENSIVE_TORCH}/lib/libc10.so)
# at::parallel_for is compiled into its caller, and serial without OpenMP; the pool must be torch's.
if(NOT PENSIVE_FUZZ)  # serial there: Debian's clang has no omp.h
  target_compile_options(pensive_torch INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-fopenmp>)
endif()
file(GLOB torch_openmp ${PENSIVE_TORCH}/lib/libgomp*.so.1)  # CPU-only wheels add a hash to the name
if(torch_openmp)
  target_link_libraries(pensive_torch INTERFACE ${torch_openmp})
else()
  target_link_libraries(pensive_torch INTERFACE gomp)
endif()
message(STATUS "torch ${PENSIVE_TORCH_VERSION}: ${PENSIVE_TORCH}")

# One precompiled ATen for all rooms that use it: seven seconds a file otherwise.
function(pensive_precompile_aten target)
  if(TARGET pensive_kernels AND NOT target STREQUAL "pensive_kernels")
    target_precompile_headers(${target} REUSE_FROM pensive_kernels)
  else()
    target_precompile_headers(${target} PRIVATE <ATen/ATen.h>)
  endif()
endfunction()

# --- CUDA: the compiler of the environment, of torch's own folder, or none.
set(PENSIVE_HAS_CUDA OFF)
if(NOT PENSIVE_CUDA STREQUAL "OFF")
  cmake_path(GET PENSIVE_TORCH PARENT_PATH site)
  if(NOT CMAKE_CUDA_COMPILER AND EXISTS ${site}/nvidia/cu13/bin/nvcc)
    set(CMAKE_CUDA_COMPILER ${site}/nvidia/cu13/bin/nvcc)
    set(CUDAToolkit_ROOT ${site}/nvidia/cu13)
  endif()
  if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
    set(CMAKE_CUDA_ARCHITECTURES 90)
  endif()
  include(CheckLanguage)
  check_language(CUDA)
  if(CMAKE_CUDA_COMPILER AND EXISTS ${PENSIVE_TORCH}/lib/libc10_cuda.so)
    enable_language(CUDA)
    set(PENSIVE_HAS_CUDA ON)
    # 90 or 90-real to 9.0, for people.
    string(REGEX REPLACE "([0-9])[a-z]?(-real|-virtual)?(;|$)" ".\\1\\3" PENSIVE_CUDA_BUILT_FOR
           "${CMAKE_CUDA_ARCHITECTURES}")
    string(REPLACE ";" " " PENSIVE_CUDA_BUILT_FOR "${PENSIVE_CUDA_BUILT_FOR}")
  elseif(PENSIVE_CUDA STREQUAL "ON")
    message(FATAL_ERROR "PENSIVE_CUDA=ON needs nvcc and a torch with CUDA")
  endif()
endif()
message(STATUS "CUDA: ${PENSIVE_HAS_CUDA}")

# --- the Rust door: tokenizers and minijinja in one static library.
find_program(CARGO NAMES cargo REQUIRED)
set(door ${PROJECT_SOURCE_DIR}/lib/text/door)
set(door_library ${PROJECT_BINARY_DIR}/door/release/libpensive_door.a)
file(GLOB_RECURSE door_sources CONFIGURE_DEPENDS ${door}/*.rs)
set(door_flags)
set(door_target)
if(PENSIVE_FUZZ)  # so that libFuzzer sees which code an input reaches; naming the target spares build scripts
  execute_process(COMMAND rustc -vV OUTPUT_VARIABLE rustc_says)
  string(REGEX MATCH "host: ([^\n]+)" found "${rustc_says}")
  set(door_target --target ${CMAKE_MATCH_1})
  set(door_library ${PROJECT_BINARY_DIR}/door/${CMAKE_MATCH_1}/release/libpensive_door.a)
  set(door_flags CARGO_PROFILE_RELEASE_LTO=off
    "RUSTFLAGS=-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=3 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table")
endif()
add_custom_command(
  OUTPUT ${door_library}
  COMMAND ${CMAKE_COMMAND} -E env ${door_flags} ${CARGO} build --release --locked --quiet --manifest-path ${door}/Cargo.toml
          --target-dir ${PROJECT_BINARY_DIR}/door ${door_target}
  DEPENDS ${door_sources} ${door}/Cargo.toml ${door}/Cargo.lock
  COMMENT "Building the Rust door (tokenizers, minijinja)"
  USES_TERMINAL VERBATIM)
add_custom_target(pensive_door_build DEPENDS ${door_library})
add_library(pensive_door INTERFACE)
add_dependencies(pensive_door pensive_door_build)
target_link_libraries(pensive_door INTERFACE ${door_library} Threads::Threads ${CMAKE_DL_LIBS})

if(PENSIVE_TESTS)
  find_package(GTest REQUIRED)
endif()
