"""Questions, articles, passages and judgements: from the files as published to Arrow tables."""
