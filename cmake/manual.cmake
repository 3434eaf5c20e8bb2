# SPDX-License-Identifier: BSD-2-Clause
# Manual pages and completions, made by scripts/make-manual from what each tool says of itself and from docs/man.
set(NM_ZSH_COMPLETIONS "${CMAKE_INSTALL_DATADIR}/zsh/site-functions" CACHE PATH "where zsh looks for completions; of Debian's packages: share/zsh/vendor-completions")
find_package(Python3 QUIET COMPONENTS Interpreter)
find_program(NM_SCDOC scdoc)
mark_as_advanced(NM_SCDOC)
set(nm_manual_dir "${PROJECT_BINARY_DIR}/manual")
set(nm_manual_files)
if(NOT Python3_FOUND OR CMAKE_CROSSCOMPILING)
    message(STATUS "manual pages and completions left out: they need python3, and tools that run on this machine")
elseif(NOT NM_SCDOC)
    message(STATUS "manual pages left out: scdoc not found (scripts/install-deps)")
endif()

# nm_page(SOURCE PAGE SECTION): PAGE of section SECTION, by scdoc.
function(nm_page source page section)
    if(NOT NM_SCDOC)
        return()
    endif()
    set(result "${nm_manual_dir}/man${section}/${page}.${section}")
    cmake_path(GET result PARENT_PATH directory)
    file(MAKE_DIRECTORY "${directory}")
    add_custom_command(OUTPUT "${result}" COMMAND sh -c "\"$0\" <\"$1\" >\"$2\"" "${NM_SCDOC}" "${source}" "${result}" DEPENDS "${source}" VERBATIM)
    install(FILES "${result}" DESTINATION "${CMAKE_INSTALL_MANDIR}/man${section}" COMPONENT tools)
    set(nm_manual_files ${nm_manual_files} "${result}" PARENT_SCOPE)
endfunction()

# nm_manual(TOOL INSTALLED): what is made for the program TOOL, which is called INSTALLED when it is installed.
function(nm_manual tool installed)
    if(NOT Python3_FOUND OR CMAKE_CROSSCOMPILING)
        return()
    endif()
    set(prose "${PROJECT_SOURCE_DIR}/docs/man/${tool}.scd")
    file(GLOB written CONFIGURE_DEPENDS "${prose}")
    set(made "${nm_manual_dir}/${installed}.1.scd" "${nm_manual_dir}/bash/${installed}" "${nm_manual_dir}/zsh/_${installed}"
             "${nm_manual_dir}/fish/${installed}.fish")
    add_custom_command(OUTPUT ${made}
        COMMAND Python3::Interpreter "${PROJECT_SOURCE_DIR}/scripts/make-manual" --tool $<TARGET_FILE:${tool}> --as ${installed}
                --prose "${prose}" --out "${nm_manual_dir}"
        DEPENDS ${tool} "${PROJECT_SOURCE_DIR}/scripts/make-manual" $<$<BOOL:${written}>:${prose}> VERBATIM)
    nm_page("${nm_manual_dir}/${installed}.1.scd" ${installed} 1)
    install(FILES "${nm_manual_dir}/bash/${installed}" DESTINATION "${CMAKE_INSTALL_DATADIR}/bash-completion/completions" COMPONENT tools)
    install(FILES "${nm_manual_dir}/zsh/_${installed}" DESTINATION "${NM_ZSH_COMPLETIONS}" COMPONENT tools)
    install(FILES "${nm_manual_dir}/fish/${installed}.fish" DESTINATION "${CMAKE_INSTALL_DATADIR}/fish/vendor_completions.d" COMPONENT tools)
    set(nm_manual_files ${nm_manual_files} ${made} PARENT_SCOPE)
endfunction()

# After the last tool: the overview, and the target `manual`.
function(nm_manual_done)
    nm_page("${PROJECT_SOURCE_DIR}/docs/man/nm.7.scd" nm 7)
    if(nm_manual_files)
        add_custom_target(manual ALL DEPENDS ${nm_manual_files})
    endif()
endfunction()
