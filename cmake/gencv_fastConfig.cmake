include("${CMAKE_CURRENT_LIST_DIR}/gencv_fastTargets.cmake")
