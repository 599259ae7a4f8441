"""What Flowcept 1.0.3 makes of its settings file and environment, as one JSON map."""

import json

from flowcept import configs

read = {
    "mq.enabled": configs.MQ_ENABLED,
    "mq.type": configs.MQ_TYPE,
    "mq.host": configs.MQ_HOST,
    "mq.channel": configs.MQ_CHANNEL,
    "databases.lmdb.enabled": configs.LMDB_ENABLED,
    "databases.mongodb.enabled": configs.MONGO_ENABLED,
    "project.db_flush_mode": configs.DB_FLUSH_MODE,
    "project.dump_buffer.enabled": configs.DUMP_BUFFER_ENABLED,
}
if configs.MONGO_ENABLED:
    read["databases.mongodb.host"] = configs.MONGO_HOST
    read["databases.mongodb.port"] = configs.MONGO_PORT
    read["databases.mongodb.db"] = configs.MONGO_DB
print(json.dumps(read))
