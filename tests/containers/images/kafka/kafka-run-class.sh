#!/bin/sh
# shellcheck disable=SC2086  # several words
exec java ${KAFKA_HEAP_OPTS:--Xmx256M} -Dorg.slf4j.simpleLogger.defaultLogLevel=${LOG_LEVEL:-warn} \
    -cp '/opt/kafka/libs/*' "$@"
