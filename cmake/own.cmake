# SPDX-License-Identifier: BSD-2-Clause
# What applies to nm's own code and to nobody else's.

set(NM_WARNINGS -Wall -Wextra -Wpedantic -Wconversion -Wsign-conversion -Wshadow)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
    # GCC 12 sees an overlap, or an overflow, in "literal" + std::string at -O2 and above (GCC bug 105651).
    list(APPEND NM_WARNINGS -Wno-restrict -Wno-stringop-overflow)
endif()

add_library(nm_warnings INTERFACE)
target_compile_options(nm_warnings INTERFACE ${NM_WARNINGS})

add_library(nm_native INTERFACE)
if(NM_NATIVE)
    target_compile_options(nm_native INTERFACE -march=native)
endif()

# The warnings for one target. Not by linking: an installed target may not name one that is not installed.
function(nm_own target)
    target_compile_options(${target} PRIVATE $<TARGET_PROPERTY:nm_warnings,INTERFACE_COMPILE_OPTIONS>)
endfunction()

if(PROJECT_IS_TOP_LEVEL)
    set(CMAKE_CXX_EXTENSIONS OFF)
    set(CMAKE_RUNTIME_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/bin")
    set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
    find_program(NM_CCACHE ccache)
    if(NM_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
        # The sloppiness is what ccache asks for before it caches anything that uses a precompiled header.
        set(CMAKE_CXX_COMPILER_LAUNCHER "${CMAKE_COMMAND};-E;env;CCACHE_SLOPPINESS=pch_defines,time_macros;${NM_CCACHE}")
    endif()
endif()
