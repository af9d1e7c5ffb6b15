# The two libraries made of all layers, and the installation: headers, libraries, the CMake package `pccl` and pccl.pc.
#
# libpccl.so exports only pccl*, so that an application can use other versions of the same dependencies. libpccl.a needs only the system
# libraries in PCCL_SYSTEM_LIBRARIES.
include(CMakePackageConfigHelpers)

set(PCCL_SYSTEM_LIBRARIES uv sqlite3 hwy zstd)
set(pccl_dependencies Threads::Threads)
foreach(library ${PCCL_SYSTEM_LIBRARIES})
  string(TOUPPER ${library} upper)
  list(APPEND pccl_dependencies PkgConfig::${upper})
endforeach()

set(pccl_contents)
foreach(layer ${PCCL_OBJECTS})
  list(APPEND pccl_contents $<TARGET_OBJECTS:${layer}>)
endforeach()

foreach(library pccl pccl_static)
  if(library STREQUAL "pccl")
    add_library(pccl SHARED ${pccl_contents})
  else()
    add_library(pccl_static STATIC ${pccl_contents})
  endif()
  set_target_properties(${library} PROPERTIES OUTPUT_NAME pccl LINKER_LANGUAGE CXX)
  target_include_directories(${library} INTERFACE $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include>
                                                  $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
  add_library(pccl::${library} ALIAS ${library})
endforeach()

set(version_script ${CMAKE_CURRENT_LIST_DIR}/libpccl.map)
set_target_properties(pccl PROPERTIES VERSION ${PROJECT_VERSION} SOVERSION ${PROJECT_VERSION_MAJOR} LINK_DEPENDS ${version_script}
                                      INSTALL_RPATH "")
target_link_libraries(pccl PRIVATE pccl_options ${pccl_dependencies})
# Not unloaded by dlclose, because a thread of the resolver may still return into it.
target_link_options(pccl PRIVATE -Wl,--version-script=${version_script} -Wl,-z,nodelete)
if(NOT PCCL_SANITIZE)
  target_link_options(pccl PRIVATE -Wl,--no-undefined)
endif()

# The linker driver of a C program does not add the C++ run-time library, so it is listed here.
target_link_libraries(pccl_static INTERFACE $<BUILD_INTERFACE:${pccl_dependencies}>)
foreach(library ${PCCL_SYSTEM_LIBRARIES})
  string(TOUPPER ${library} upper)
  target_link_libraries(pccl_static INTERFACE $<INSTALL_INTERFACE:PkgConfig::PCCL_${upper}>)
endforeach()
target_link_libraries(pccl_static INTERFACE $<INSTALL_INTERFACE:Threads::Threads> $<INSTALL_INTERFACE:stdc++> $<INSTALL_INTERFACE:m>)

# ---------------------------------------------------------------------------------------------------------------- install --
# One component, so that `cmake --install <build> --component pccl` needs no tool or example built.
set(pccl_package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/pccl)
install(TARGETS pccl EXPORT pccl-targets LIBRARY COMPONENT pccl NAMELINK_COMPONENT pccl)
install(TARGETS pccl_static EXPORT pccl-static-targets ARCHIVE COMPONENT pccl)
install(DIRECTORY ${PROJECT_SOURCE_DIR}/include/ DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} COMPONENT pccl FILES_MATCHING PATTERN "*.h")
install(EXPORT pccl-targets NAMESPACE pccl:: DESTINATION ${pccl_package_dir} COMPONENT pccl)
install(EXPORT pccl-static-targets NAMESPACE pccl:: DESTINATION ${pccl_package_dir} COMPONENT pccl)

configure_package_config_file(${PROJECT_SOURCE_DIR}/cmake/pcclConfig.cmake.in ${PROJECT_BINARY_DIR}/pcclConfig.cmake
                              INSTALL_DESTINATION ${pccl_package_dir})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/pcclConfigVersion.cmake COMPATIBILITY SameMajorVersion)
install(FILES ${PROJECT_BINARY_DIR}/pcclConfig.cmake ${PROJECT_BINARY_DIR}/pcclConfigVersion.cmake DESTINATION ${pccl_package_dir}
        COMPONENT pccl)

# pccl.pc derives its prefix from its own path, so that an installed tree can be moved.
set(pc_dir ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
file(RELATIVE_PATH pc_prefix /prefix/${pc_dir} /prefix)
string(REGEX REPLACE "/$" "" pc_prefix "${pc_prefix}")
list(TRANSFORM PCCL_SYSTEM_LIBRARIES PREPEND "-l" OUTPUT_VARIABLE pc_private)
list(JOIN pc_private " " pc_private)
configure_file(${PROJECT_SOURCE_DIR}/cmake/pccl.pc.in ${PROJECT_BINARY_DIR}/pccl.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/pccl.pc DESTINATION ${pc_dir} COMPONENT pccl)
